# Not built where it was written: no image builder is there. .ci/deploy checks that cargo
# finds all that the manifest names among the files that it copies.
#
#     docker build -t postrider .
#     docker run --rm -p 127.0.0.1:8080:8080 --read-only --env-file postrider.env postrider
#
# postrider.env has DATABASE_URL, POSTRIDER_JWT_SECRET and POSTRIDER_SECRET_KEY. The image has no shell and no
# PostgreSQL: the private server is for development.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY .sqlx .sqlx
COPY migrations migrations
COPY sql sql
COPY benches benches
COPY tests tests
COPY examples examples
COPY src src
ENV SQLX_OFFLINE=true
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    cargo build --release --locked && strip --strip-debug -o /postrider target/release/postrider

# glibc, the CA certificates and a user; nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /postrider /usr/local/bin/postrider
# The container's own network is the only one that reaches it, so it listens on all of its addresses.
ENV POSTRIDER_LISTEN=0.0.0.0:8080
# Nothing is written: the root file system may be read-only.
USER nonroot
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/postrider"]
CMD ["serve"]
