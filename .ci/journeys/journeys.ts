// The three journeys through a client that openapi-typescript generates from /openapi.json: what does not fit the
// description does not compile, and what the server answers otherwise than described does not arrive.
import createClient from "openapi-fetch";
import { strict as assert } from "node:assert";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { components, paths } from "./api.js";

type Schemas = components["schemas"];

function setting(name: string): string {
  const value = process.env[name];
  assert(value, `${name} is not set`);
  return value;
}

const baseUrl = setting("POSTRIDER_URL");
const as = (token: string) => createClient<paths>({ baseUrl, headers: { authorization: `Bearer ${setting(token)}` } });
const [admin, agent, worker] = [as("ADMIN_TOKEN"), as("AGENT_TOKEN"), as("WORKER_TOKEN")];

/** What was answered; an answer that is none of the good ones ends the journey. */
function got<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  assert(answer.response.ok, `${answer.response.url}: ${answer.response.status} ${JSON.stringify(answer.error)}`);
  return answer.data as T;
}

async function eventually<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((again) => setTimeout(again, 50))) {
    const found = await look();
    if (found !== undefined) return found;
  }
  throw new Error(`${what}: not within a minute`);
}

async function queue(): Promise<void> {
  const definition: Schemas["QueueDefinition"] = {
    incoming: { schema: { type: "object", required: ["to"] } },
    handler: { kind: "worker" },
    options: { timeout: "30s", max_attempts: 3, retry: { base: "1s" } },
  };
  const path = { queue: "ts-mail" };
  got(await admin.PUT("/queues/{queue}", { params: { path }, body: definition }));
  const read = got(await admin.GET("/queues/{queue}", { params: { path } }));
  assert.equal(read.state?.paused, false);
  got(await admin.PUT("/queues/{queue}", { params: { path }, body: read }));

  const refused = await admin.POST("/queues/{queue}/messages", { params: { path }, body: { nobody: true } });
  assert.equal(refused.error?.errors?.[0]?.keyword, "required");
  const pushed = got(
    await admin.POST("/queues/{queue}/messages", { params: { path, query: { priority: 5 } }, body: { to: "ann" } }),
  );
  assert.equal(pushed.status, "PENDING");
  const [claimed] = got(
    await admin.POST("/queues/{queue}/claim", { params: { path, query: { wait: "20s", max: 1 } } }),
  );
  assert(claimed && claimed.id === pushed.id && claimed.attempt === 1);
  const message = { ...path, id: claimed.id };
  const completion = { lease: claimed.lease, result: { sent: true } };
  got(await admin.POST("/queues/{queue}/messages/{id}/complete", { params: { path: message }, body: completion }));
  const done = got(await admin.GET("/queues/{queue}/messages/{id}", { params: { path: message } }));
  assert.equal(done.status, "COMPLETE");
  assert.deepEqual(done.result, { sent: true });
  const full = got(
    await admin.GET("/queues/{queue}/messages/{id}", { params: { path: message, query: { view: "full" } } }),
  );
  assert("history" in full && full.history[0]?.ending === "completed");
}

async function job(): Promise<void> {
  const job_type = "place_card_on_single_site_jobs";
  const wanted: Schemas["NewJob"] = { cardholder_id: 7, job_timeout: "5m", data: { site: "shop.example.com" } };
  const created = got(await agent.POST("/{job_type}", { params: { path: { job_type } }, body: wanted }));
  assert(!Array.isArray(created) && created.access_key);
  const key = created.access_key;
  const [claimed] = got(
    await worker.POST("/{job_type}/claim", { params: { path: { job_type }, query: { wait: "20s" } } }),
  );
  assert(claimed && claimed.id === created.id);
  assert.equal(claimed.data["site"], "shop.example.com");

  const path = { job_type, job_id: created.id };
  const { lease } = claimed;
  const said: Schemas["JobChange"] = { status: "AUTH", percent_complete: 10, lease };
  got(await worker.PUT("/{job_type}/{job_id}", { params: { path }, body: said }));
  const question: Schemas["CredentialRequest"] = { type: "tfa_request", lease, message: "The site has sent a code." };
  got(await worker.POST("/messages/{job_type}/{job_id}/credential_requests", { params: { path }, body: question }));
  const asked = got(await agent.GET("/messages/{job_type}/{job_id}/credential_requests", { params: { path } }));
  assert.equal(asked.type, "tfa_request");
  const response = { envelope_id: asked.envelope_id, type: "tfa_response", message: "1234" };
  got(await agent.POST("/messages/{job_type}/{job_id}/credential_responses", { params: { path }, body: response }));
  const code = got(
    await worker.GET("/messages/{job_type}/{job_id}/credential_responses", {
      params: { path, header: { "x-postrider-lease": lease } },
    }),
  );
  assert.equal(code.message, "1234");
  const end: Schemas["JobChange"] = { status: "COMPLETED", termination_type: "BILLABLE", lease };
  got(await worker.PUT("/{job_type}/{job_id}", { params: { path }, body: end }));

  const log = got(
    await agent.GET("/messages/{job_type}/{job_id}/broadcasts", {
      params: { path, query: { after: 0, wait: "9s" }, header: { "cardsavr-messaging-access-key": key } },
    }),
  );
  assert.equal(log.at(-1)?.message.termination_type, "BILLABLE");
}

async function hub(): Promise<void> {
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
      const { message_id } = JSON.parse(body);
      response.setHeader("content-type", "application/json").end(JSON.stringify({ message_id }));
    });
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const { port } = server.address() as AddressInfo;
  try {
    const store = "ts-shop";
    const endpoint: Schemas["EndpointDefinition"] = { url: `http://127.0.0.1:${port}/hub`, token: "x123" };
    got(
      await admin.PUT("/stores/{store}/endpoints/{name}", {
        params: { path: { store, name: "warehouse" } },
        body: endpoint,
      }),
    );
    const mapping: Schemas["MappingDefinition"] = {
      endpoint: "warehouse",
      service: "drop_ship",
      messages: ["order:new"],
      filters: [{ path: "payload.order.total", operator: "gt", value: 10 }],
      options: { retry: { base: "1s", cap: "5m" } },
    };
    const ship = { path: { store, name: "ship" } };
    got(await admin.PUT("/stores/{store}/mappings/{name}", { params: ship, body: mapping }));
    got(await admin.GET("/stores/{store}/mappings/{name}", { params: ship }));
    const stores = got(await admin.GET("/stores", { params: { query: { limit: 500 } } }));
    assert(stores.stores.some((one) => one.name === store));

    const order = { message: "order:new", payload: { order: { number: "R123", total: 25 } } };
    const pushed = got(await admin.POST("/stores/{store}/messages", { params: { path: { store } }, body: order }));
    assert.equal(pushed.state, "routed");
    const delivery = await eventually("the delivery", async () => {
      const path = { store, id: pushed.message_id };
      const message = got(await admin.GET("/stores/{store}/messages/{id}", { params: { path } }));
      return message.deliveries.find((one) => one.status === "COMPLETE");
    });
    const path = { store, id: delivery.id };
    const attempts = got(await admin.GET("/stores/{store}/deliveries/{id}/attempts", { params: { path } }));
    assert.deepEqual([attempts.length, attempts[0]?.status_code], [1, 200]);
  } finally {
    server.close();
  }
}

for (const [name, journey] of Object.entries({ queue, job, hub })) {
  await journey();
  console.log(`the journey ${name}: done in TypeScript`);
}
