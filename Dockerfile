# docker build -t anypush .          docs/running.md says how to run it.
FROM rust:1.95-bookworm AS build
# cmake: the TLS library is compiled.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Exactly what Cargo.lock names; anything else fails.
RUN cargo build --locked --release --bin anypush

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/anypush anypush \
    && install -d -o anypush -g anypush -m 0700 /var/lib/anypush
COPY --from=build /src/target/release/anypush /usr/local/bin/anypush
USER anypush
ENV ANYPUSH_LISTEN=0.0.0.0:8470 ANYPUSH_DATA_DIR=/var/lib/anypush ANYPUSH_LOG_FORMAT=json
VOLUME /var/lib/anypush
EXPOSE 8470
# SIGTERM stops it in order; give it longer than shutdown_seconds (docker stop --time 60).
ENTRYPOINT ["/usr/local/bin/anypush"]
CMD ["serve"]
