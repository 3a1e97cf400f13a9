// An endpoint of the hub: captures payments. Node's own modules are enough.
//
//     node examples/payment_endpoint.js        (POSTRIDER_ALLOW_NETWORKS=127.0.0.0/8 lets the hub reach it)
//
// A business error is an acknowledgement too: it is told to people and never tried again. A 5xx is tried again.
const http = require('node:http');

const services = {
  capture_payment: ({ message_id, payload: { payment } }) => {
    if (!(payment.amount > 0)) {
      const description = `${payment.order} has nothing to capture`;
      return { message_id, messages: [{ message: 'notification:error', payload: { subject: 'Not captured', description } }] };
    }
    const description = `Captured ${payment.amount} for ${payment.order}`;
    return { message_id, notifications: [{ level: 'info', subject: 'Payment captured', description }] };
  },
};

http.createServer((request, response) => {
  const answer = (status, document) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(document));
  };
  let body = '';
  request.setEncoding('utf8').on('data', part => { body += part; }).on('end', () => {
    const service = services[request.url.slice(1)];
    if (!service) return answer(404, { error: 'there is no such service' });
    try {
      answer(200, service(JSON.parse(body)));
    } catch (error) {
      answer(500, { error: error.message });
    }
  });
}).listen(9002, '127.0.0.1');
