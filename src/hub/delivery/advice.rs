//! What to change when a service does not take what it is sent, in plain words.

use crate::http::outbound::Cause;

/// What to change so that the next request is taken. `answered` is whether the service answered 2xx.
pub(super) fn advice(cause: Cause, answered: bool) -> &'static str {
    match cause {
        Cause::Dns => "Check the host name in the endpoint's \"url\": no address was found for it.",
        Cause::Refused => "Check the port in the endpoint's \"url\", and that the server is running.",
        Cause::ConnectTimeout => {
            "Check the address, and that no firewall between this server and the endpoint drops the connection."
        }
        Cause::Reset | Cause::Truncated => {
            "Look into the logs of the endpoint: it, or a proxy in front of it, closed the connection before it had \
             answered. Check too that \"url\" says https where the server speaks TLS, and http where it does not."
        }
        Cause::TlsUnknownCa => {
            "Have the endpoint send its whole certificate chain, issued by an authority that this server trusts, or \
             have the operator add that authority to the certificates of this server."
        }
        Cause::TlsName => "Use in \"url\" a host name that the endpoint's certificate is issued for.",
        Cause::TlsExpired => "Renew the endpoint's certificate, and check the clocks of both servers.",
        Cause::TlsClientCertificate => {
            "Have the endpoint accept connections without a client certificate: Postrider does not send one. It can \
             check the token and the signature of each request instead."
        }
        Cause::TlsVersion => "Have the endpoint accept TLS 1.2 or 1.3.",
        Cause::NotHttp => {
            "Check the port in \"url\", and whether it must be http or https: what listens there does not speak HTTP."
        }
        Cause::Http2Only => "Have the endpoint accept HTTP/1.1 as well: Postrider does not speak HTTP/2.",
        Cause::HeadersTooLarge => "Have the endpoint send fewer or shorter headers.",
        Cause::BodyTooLarge => "Have the endpoint answer with at most 1 MiB.",
        Cause::Timeout => {
            "Have the endpoint answer sooner, for instance before it does the work, or raise \"timeout\" of the endpoint \
             or of the mapping. (A check waits 10 seconds at most; a delivery waits as long as \"timeout\" says.)"
        }
        Cause::AddressNotAllowed => {
            "Use a public address. If this one is meant, the operator can allow its network (POSTRIDER_ALLOW_NETWORKS)."
        }
        Cause::Redirect => {
            "Put the address that the answer points to, if it is the right one, into \"url\" or \"service\"."
        }
        Cause::Status if answered => {
            "Have the service answer 200, or put \"ack\": \"lenient\" in the mapping's options: then any 2xx counts."
        }
        Cause::Status => {
            "Look at the status and the body of the answer: check \"url\", \"service\" and the token, then the endpoint's logs."
        }
        Cause::NotJson | Cause::NoMessageId | Cause::OtherMessageId => {
            "This mapping is strict: it wants 200 and a JSON body with the message_id of the request. If the service is \
             an ordinary receiver of webhooks, put \"ack\": \"lenient\" in the mapping's options: then any 2xx counts. \
             Otherwise have it answer {\"message_id\": \"<that of the request>\"}."
        }
        Cause::Encoded => {
            "Have the endpoint answer without Content-Encoding: none was asked for. If nothing of its answer is needed, \
             put \"ack\": \"lenient\" in the mapping's options."
        }
    }
}
