// Verifies requests by npm's standardwebhooks: {headers, cases: [[secret, body]]} in, one word a case out.
const { Webhook, WebhookVerificationError } = require(
  process.env.POSTRIDER_WEBHOOKS + "/node/node_modules/standardwebhooks",
);

const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
for (const [secret, body] of asked.cases) {
  try {
    new Webhook(secret).verify(body, asked.headers);
    console.log("verified");
  } catch (refusal) {
    if (!(refusal instanceof WebhookVerificationError)) throw refusal;
    console.log("refused: " + refusal.message);
  }
}
