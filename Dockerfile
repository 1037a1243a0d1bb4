# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0

FROM --platform=${BUILDPLATFORM} golang:1.26 AS build
ARG TARGETOS TARGETARCH
ARG VERSION=v0.0.0-dev
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} go build -trimpath \
    -ldflags "-s -w -X github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version.gitVersion=${VERSION}" \
    -o /out/ ./cmd/machine-controller ./cmd/vch-driver

# vch-driver has no entry point: its container names it as command.
FROM gcr.io/distroless/static:nonroot
COPY --from=build /out/machine-controller /out/vch-driver /
USER 65532:65532
ENTRYPOINT ["/machine-controller"]
