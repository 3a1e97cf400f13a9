// TLS in front of a server, and somebody in the middle who may change one request.
"use strict";

const http = require("node:http");
const https = require("node:https");
const { readFileSync } = require("node:fs");

const { CERTIFICATE, KEY } = process.env;

/** Listens with TLS and hands on what comes to `plain`, past `change` if that is set. */
exports.terminator = (plain) => new Promise((resolve) => {
    const { hostname, port } = new URL(plain);
    const between = { change: undefined };
    const server = https.createServer({ cert: readFileSync(CERTIFICATE), key: readFileSync(KEY) }, async (incoming, outgoing) => {
        const chunks = [];
        for await (const chunk of incoming) chunks.push(chunk);
        const request = { method: incoming.method, path: incoming.url, headers: { ...incoming.headers }, body: Buffer.concat(chunks) };
        between.change?.(request);
        const { method, path, headers, body } = request;
        for (const name of ["transfer-encoding", "content-length", "connection"]) delete headers[name];
        if (body.length > 0) headers["content-length"] = body.length;
        const passed = http.request({ hostname, port, method, path, headers }, (answer) => {
            outgoing.writeHead(answer.statusCode, answer.headers);
            answer.pipe(outgoing);
        });
        passed.on("error", () => outgoing.destroy());
        passed.end(body);
    });
    server.listen(0, "127.0.0.1", () => {
        between.url = `https://127.0.0.1:${server.address().port}/`;
        between.close = () => server.close();
        resolve(between);
    });
});
