// A handler can push to other queues. Each width becomes a message of the queue `resize`, which a program of
// your own works off (worker.py). What the promise resolves with is the result of this message.
module.exports = function (message) {
    const push = (width) =>
        this.messagingService.queueMessage("resize", { image: message.image, width });
    return Promise.all(message.widths.map(push)).then((ids) => {
        console.log(`${ids.length} sizes queued`);
        return { resize: ids };
    });
};
