// The journeys of .ci/sdk: the vendor's client, as npm has it, against two servers behind TLS.
"use strict";

const assert = require("node:assert");
const { appendFileSync } = require("node:fs");
const { terminator } = require("./terminator.js");
const LIBRARY = "@strivve/strivve-sdk/lib/cardsavr";
const { CardsavrHelper } = require(`${LIBRARY}/CardsavrHelper.js`);
const { CardsavrSession } = require(`${LIBRARY}/CardsavrJSLibrary-2.0.js`);

const { ONE, OTHER, CA, APP_KEY, FORMER_KEY, PASSWORD, SECRETS } = process.env;
const ca = require("node:fs").readFileSync(CA, "utf8");
const HYDRATED = { "x-cardsavr-hydration": JSON.stringify(["cardholder", "account", "credential_requests"]) };
const CREDENTIALS = { username: "zebra-user-61574", password: "tiger-pass-90412" };
const RENEWED = { username: "zebra-user-61574", password: "lion-pass-33107" };
const CODE = "84736251";

const secret = (...texts) => texts.forEach((text) => appendFileSync(SECRETS, `${text}\n`));
const done = (what) => console.log(`ok: ${what}`);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A session of the client's own, past its helper, which keeps one a user. */
async function session(url, username, { password = PASSWORD, key = APP_KEY, name = "acme" } = {}) {
    const opened = new CardsavrSession(url, key, name, true, ca);
    await opened.init(username, password);
    secret(opened._sessionData.sessionKey, opened._sessionData.sessionToken);
    return opened;
}

/** The error of a call that must be refused. */
async function refused(status, call) {
    const error = await call.then(() => assert.fail("it was not refused"), (error) => error);
    assert.strictEqual(error.statusCode, status, error);
    assert.ok(Array.isArray(error.errors) && error.errors[0].message, `no errors: ${JSON.stringify(error.response.body)}`);
    return error;
}

/** What `cardsavr_server` of a helper that shares nothing with another would be. */
function helper(url) {
    CardsavrHelper.instance = undefined;
    return CardsavrHelper.getInstance().setAppSettings(url, "acme", APP_KEY, true, ca);
}

async function claim(worker) {
    for (;;) {
        const claimed = (await worker.post("/place_card_on_single_site_jobs/claim", {})).body;
        if (claimed[0]) return claimed[0];
        await sleep(100);
    }
}

const end = (worker, id) => worker.updateSingleSiteJob(id, { status: "DONE", termination_type: "BILLABLE" });

/** The methods that the documents name, in the order of a conversation. */
async function conversation(one, other) {
    const helped = helper(one.url);
    await helped.loginAndCreateSession("agent", PASSWORD);
    const agent = helped.getSession("agent");
    assert.strictEqual(agent.getSessionUserId(), 1);
    secret(agent._sessionData.sessionKey, agent._sessionData.sessionToken);
    const worker = await session(other.url, "worker");

    const created = (await agent.createSingleSiteJob({ cardholder_id: 123, account: { account_link: CREDENTIALS } }, null, HYDRATED)).body;
    assert.ok(Number.isInteger(created.id) && created.access_key, created);
    assert.deepStrictEqual(created.credential_requests, []);
    assert.strictEqual(created.account_id, created.id);
    const { access_key } = (await agent.registerForJobStatusUpdates(created.id)).body;
    secret(access_key, created.access_key);
    assert.deepStrictEqual((await agent.getJobStatusUpdate(created.id, access_key)).body, []);
    assert.ok(!(await agent.getJobInformationRequest(created.id)).body, "nothing is asked");

    const taken = await claim(worker);
    assert.strictEqual(taken.id, created.id);
    assert.deepStrictEqual(taken.data.account.account_link, CREDENTIALS);
    await worker.updateSingleSiteJob(created.id, { status: "AUTH", percent_complete: 5 });
    const said = (await agent.getJobStatusUpdate(created.id, access_key)).body;
    assert.strictEqual(said[0].message.status, "AUTH");

    await worker.requestJobInformation(created.id, "tfa_request", "the code, please", [{ key_name: "tfa" }]);
    const messages = (await agent.getCardholderMessages(123)).body;
    assert.strictEqual(messages[0].type, "tfa_request");
    const asked = (await agent.getJobInformationRequest(created.id)).body;
    assert.ok(asked.envelope_id && asked.job_id === created.id, asked);
    await agent.sendJobInformation(created.id, asked.envelope_id, "tfa_response", CODE);
    await refused(409, agent.sendJobInformation(created.id, asked.envelope_id, "tfa_response", CODE));
    assert.strictEqual((await worker.getJobInformationResponse(created.id)).body.message, CODE);
    assert.ok(!(await worker.getJobInformationResponse(created.id)).body, "an answer is read once");
    done("log in, create, register, follow, be asked, answer a code");

    // A wrong access key is refused, and the session goes on.
    await refused(401, agent.getJobStatusUpdate(created.id, "d3Jvbmc="));
    assert.strictEqual((await agent.getSingleSiteJobs(created.id)).body.id, created.id);
    await refused(404, agent.getSingleSiteJobs(999999));
    await refused(422, agent.createSingleSiteJob({}));
    done("refusals have errors, and a wrong access key ends no session");

    await end(worker, created.id);
    const last = (await agent.getJobStatusUpdate(created.id, access_key)).body.pop();
    assert.strictEqual(last.message.termination_type, "BILLABLE");
    done("the end is told");
    await agent.end();
    await worker.end();
}

/** Nested objects, and new credentials as the helper hands them over. */
async function credentials(one, other) {
    const helped = helper(one.url);
    const agent = await helped.loginAndCreateSession("agent", PASSWORD);
    secret(agent._sessionData.sessionKey, agent._sessionData.sessionToken);
    const worker = await session(other.url, "worker");
    const job_data = { account: { merchant_site_id: 3, account_link: CREDENTIALS }, cardholder: { cuid: "customer-42", first_name: "Ada" } };
    const created = await helped.placeCardOnSiteSingleCall({ username: "agent", job_data });
    assert.deepStrictEqual(created.account, { id: created.account_id, cardholder_id: created.cardholder_id, merchant_site_id: 3 });
    assert.deepStrictEqual(created.cardholder, { id: created.cardholder_id, cuid: "customer-42" });
    assert.ok(!JSON.stringify(created).includes(CREDENTIALS.password));
    const [again] = (await helped.placeCardOnSites({ username: "agent", jobs_data: [{ cardholder_id: created.cardholder_id, account: { account_link: CREDENTIALS } }] })).body;
    assert.strictEqual(again.cardholder_id, created.cardholder_id);
    const listed = (await agent.getSingleSiteJobs({ cardholder_ids: created.cardholder_id })).body;
    assert.strictEqual(listed.length, 2);

    const query = helped.createCardholderQuery("agent", created.cardholder_id);
    query.interval = 200;
    const asked = new Promise((resolve) => query.addListener(created.id, resolve, "pending_newcreds"));
    const finished = new Promise((resolve) => query.addListener(created.id, (item) => item.message.termination_type && resolve(item), "job_status"));
    const first = await claim(worker);
    const second = await claim(worker);
    assert.deepStrictEqual([first.id, second.id].sort(), [created.id, again.id].sort());
    await worker.requestJobInformation(created.id, "credential_request", "they are wrong", [{ key_name: "username" }, { key_name: "password" }]);
    const request = await asked;
    assert.deepStrictEqual(request.account_link.map((field) => field.key_name), ["username", "password"]);
    const creds = { username: "agent", job_id: created.id, envelope_id: request.envelope_id };
    await refused(400, helped.postCreds({ ...creds, account_link: { password: RENEWED.password } }));
    const put = await helped.postCreds({ ...creds, account_link: RENEWED });
    assert.strictEqual(put.body.status, "CREDS_RECEIVED");
    const response = (await worker.getJobInformationResponse(created.id)).body;
    // The client sends no lease with this, and what lies in the safe is for its holder alone.
    assert.deepStrictEqual([response.message, response.account_link], ["submitted", undefined]);
    const lease = { "x-postrider-lease": (first.id === created.id ? first : second).lease };
    const whole = (await worker.getSingleSiteJobs(created.id, {}, lease)).body;
    assert.deepStrictEqual(whole.account.account_link, RENEWED);
    await agent.updateAccount(again.account_id, { account_link: RENEWED });
    await end(worker, again.id);
    await end(worker, created.id);
    assert.strictEqual((await finished).message.termination_type, "BILLABLE");
    query.removeAll();
    done("nested objects, a query of the cardholder, new credentials handed over and read by the worker");

    const sites = (await agent.getMerchantSites({ host: "shop.example" })).body;
    assert.deepStrictEqual(sites.map((site) => site.id), [3]);
    assert.deepStrictEqual((await agent.getMerchantSites({ host: "nowhere.example" })).body, []);
    assert.strictEqual((await agent.getMerchantSites(3)).body.name, "The shop");
    assert.strictEqual((await agent.getMerchantSites({})).body.length, 1);
    done("merchant sites, also with an empty query");
    helped.endSession("agent");
    await worker.end();
}

/** Several users and sessions, on two servers. */
async function sessions(one, other) {
    const first = await session(one.url, "agent");
    const second = await session(other.url, "agent", { key: FORMER_KEY });
    const stranger = await session(one.url, "ärger@example.com");
    const { id } = (await first.createSingleSiteJob({ cardholder_id: 7 })).body;
    assert.strictEqual((await second.getSingleSiteJobs(id)).body.id, id);
    await refused(404, stranger.getSingleSiteJobs(id));
    assert.deepStrictEqual((await stranger.getSingleSiteJobs({ ids: id, status: "A B" })).body, []);

    // The same session on the other server, as a page that was loaded again restores it.
    const restored = new CardsavrSession(other.url, APP_KEY, "acme", true, ca);
    restored.deserializeSessionData(first.getSerializedSessionData());
    assert.deepStrictEqual((await restored.refresh()).body, {});
    assert.strictEqual((await restored.getSingleSiteJobs(id)).body.id, id);
    await first.end();
    await refused(401, restored.getSingleSiteJobs(id));
    await refused(401, restored.refresh());
    assert.strictEqual((await second.getSingleSiteJobs(id)).body.id, id);
    done("several users and sessions on two servers; the end of one is no other's");
    await second.updateSingleSiteJob(id, { status: "CANCEL_REQUESTED" });
    // They stay open, so that their rows can be looked at.
    await stranger.getMerchantSites({});
}

/** Who does not get in. */
async function strangers(one) {
    const words = new Set();
    for (const [username, password] of [["agent", "wrong"], ["nobody", PASSWORD]]) {
        words.add((await refused(401, session(one.url, username, { password }))).errors[0].message);
    }
    assert.strictEqual(words.size, 1, "it is not told which users there are");
    await refused(401, session(one.url, "agent", { key: Buffer.alloc(32, 7).toString("base64") }));
    await refused(401, session(one.url, "agent", { name: "nobody" }));
    done("wrong users, passwords, keys and integrators are refused in words that the client reads");
}

/** What somebody does to requests on the way, and clocks. */
async function tampering(one) {
    const agent = await session(one.url, "agent");
    const other = await session(one.url, "ärger@example.com");
    const once = (change) => { one.change = (request) => { one.change = undefined; change(request); }; };
    const create = () => agent.createSingleSiteJob({ cardholder_id: 7 });
    for (const [status, change] of [
        [401, (request) => { request.headers["x-cardsavr-signature"] = Buffer.alloc(32).toString("base64"); }],
        [401, (request) => { request.headers["x-cardsavr-nonce"] = "1"; }],
        [401, (request) => { request.headers["x-cardsavr-session-jwt"] = other._sessionData.sessionToken; }],
        [401, (request) => { request.body = Buffer.from(request.body.toString().replace(/.\$/, (end) => `${end[0] === "A" ? "B" : "A"}$`)); }],
        [401, (request) => { request.body = Buffer.from('{"cardholder_id": 7}'); }],
        [401, (request) => { request.path += "?ids=1"; }],
        [401, (request) => { delete request.headers["x-cardsavr-signature"]; }],
        [401, (request) => { for (const name of ["authorization", "signature", "nonce"]) delete request.headers[`x-cardsavr-${name}`]; }],
    ]) {
        // The client forgets its number after a 401, and goes on with its token and key.
        once(change);
        await refused(status, create());
    }
    assert.strictEqual((await agent.getSingleSiteJobs({ cardholder_ids: 7, status: "REQUESTED" })).body.length, 0);
    done("what is changed on the way is refused, and the session goes on");

    // A body of one session is none in another's.
    let sent;
    once((request) => { sent = request.body; });
    const { id } = (await create()).body;
    once((request) => { request.body = sent; });
    await refused(401, other.createSingleSiteJob({ cardholder_id: 7 }));
    // The same bytes again in their own session are the same request again: nonces repeat.
    let whole;
    once((request) => { whole = { ...request, headers: { ...request.headers } }; });
    await agent.getSingleSiteJobs(id);
    once((request) => { Object.assign(request, whole); });
    assert.strictEqual((await agent.getSingleSiteJobs(id)).body.id, id);
    done("a body that is replayed in another session is refused");

    // Clocks that are far off.
    const now = Date.prototype.getTime;
    for (const years of [-10, 10]) {
        Date.prototype.getTime = function () { return now.call(this) + years * 365 * 86_400_000; };
        try {
            assert.strictEqual((await agent.getSingleSiteJobs(id)).body.id, id);
        } finally {
            Date.prototype.getTime = now;
        }
    }
    done("clocks may be off");

    // An HTTP stack that drops an empty query.
    once((request) => { assert.ok(request.path.endsWith("?")); request.path = request.path.slice(0, -1); });
    assert.strictEqual((await agent.getMerchantSites({})).body.length, 1);
    done("an empty query may get lost");
    await agent.updateSingleSiteJob(id, { status: "CANCEL_REQUESTED" });
}

async function main() {
    secret(CREDENTIALS.password, RENEWED.password, CODE, APP_KEY, FORMER_KEY, PASSWORD);
    const [one, other] = await Promise.all([terminator(ONE), terminator(OTHER)]);
    await conversation(one, other);
    await credentials(one, other);
    await sessions(one, other);
    await strangers(one);
    await tampering(one);
    one.close();
    other.close();
    console.log("the vendor's client works as it is");
}

main().then(() => process.exit(0), (error) => {
    console.error(error, error?.response?.body ?? "");
    process.exit(1);
});
