#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0

# Generates the reference page of the ProviderSpec from the comments of its types.
set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

go run ./hack/apidocs -types pkg/api/v1alpha1/types.go -out docs/provider-spec.md
