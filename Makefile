# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0

VERSION ?= $(shell git describe --tags --match 'v*' --dirty 2>/dev/null || echo v0.0.0-dev)
LDFLAGS  = -s -w -X github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version.gitVersion=$(VERSION)

# For "make start", named as MCM's integration framework passes them.
CONTROL_KUBECONFIG ?=
TARGET_KUBECONFIG  ?= $(CONTROL_KUBECONFIG)
CONTROL_NAMESPACE  ?= default
LEADER_ELECT       ?= false

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Show the main job with a simulated vCenter and a real control plane; KEEP=1 leaves it running, SIDECAR=1 has the driver as a gRPC plugin.
	@hack/demo.sh $(if $(KEEP),--keep) $(if $(SIDECAR),--sidecar)

.PHONY: build
build: ## Build the programs into bin/.
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: generate
generate: ## Regenerate deep copies, mocks and reference pages.
	@hack/generate.sh

.PHONY: lint
lint: ## Lint and check the formatting.
	@hack/lint.sh

.PHONY: test
test: ## Run all tests: unit, e2e, a short chaos and MCM's integration framework.
	@hack/test.sh

.PHONY: test-unit
test-unit: ## Run the tests that need no control plane, with the race detector.
	@hack/test.sh unit

.PHONY: e2e
e2e: ## Run the end-to-end tests: real API server, real MCM, nodes that join, both modes.
	@hack/test.sh e2e

.PHONY: integration
integration: ## Run MCM's own integration framework, with the driver in-process and as a sidecar.
	@hack/test.sh integration

.PHONY: bench
bench: ## Measure the driver beside the usual approach, and write docs/performance.md.
	go run -ldflags '$(LDFLAGS)' ./test/bench

.PHONY: bench-go
bench-go: ## Run the Go benchmarks.
	go test -run '^$$' -bench . -benchmem ./pkg/... ./test/rootdisk

.PHONY: chaos
chaos: ## Break everything for minutes and look at what is left: CHAOS_MACHINES=200 CHAOS_MINUTES=10 CHAOS_SEED=1; docs/chaos.md.
	@hack/chaos.sh

.PHONY: verify
verify: ## Check scripts, modules, generated files, vet, lint.
	@hack/verify.sh

.PHONY: start
start: build ## Run the machine-controller against CONTROL_KUBECONFIG and TARGET_KUBECONFIG.
	@test -n '$(CONTROL_KUBECONFIG)' || { echo 'start: set CONTROL_KUBECONFIG to the kubeconfig of the control cluster' >&2; exit 1; }
	@exec bin/machine-controller --control-kubeconfig='$(CONTROL_KUBECONFIG)' --target-kubeconfig='$(TARGET_KUBECONFIG)' \
		--namespace='$(CONTROL_NAMESPACE)' --leader-elect='$(LEADER_ELECT)' --v=3

.PHONY: clean
clean: ## Remove what was built here; the user's cache stays.
	rm -rf bin
