# One image with all programs; which one runs is the command. Build: docker build -t tidemill:0.1.0 .
FROM rust:1-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bins \
        -p tidemill-cli -p tidemill-ticker -p tidemill-mover -p tidemill-dispatcher \
    && mkdir /programs \
    && cp target/release/tidemill target/release/tidemill-ticker target/release/tidemill-mover \
        target/release/tidemill-dispatcher /programs/

FROM debian:bookworm-slim
# The roots that sslrootcert=system stands for; the slim image has none.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /programs/ /usr/local/bin/
# A number, so that Kubernetes can see that it is not root. Nothing is written to disk.
USER 65532:65532
# 8080 API (dispatcher), 9090 probes and metrics.
EXPOSE 8080 9090
CMD ["tidemill", "--help"]
