module.exports = function(message) {
    return new Promise((resolve, reject) => {
        console.log(message);
        return resolve({
            result : "value"
        });
    });
};
