# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash

# Versions of the tools that go.mod does not pin. Sourced by the other scripts.
# mockgen has the version of go.uber.org/mock in go.mod, protoc-gen-go that of
# google.golang.org/protobuf; the control plane's programs those of test/controlplane/go.mod.

# shellcheck disable=SC2034 # used where this file is sourced
GOLANGCI_LINT_VERSION=v2.15.0
# shellcheck disable=SC2034
CODE_GENERATOR_VERSION=v0.34.1
# shellcheck disable=SC2034
BUF_VERSION=v1.57.0
# shellcheck disable=SC2034
PROTOC_GEN_GO_GRPC_VERSION=v1.6.2
