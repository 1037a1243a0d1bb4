#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0

# Generates the deep copies of the API types.
set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source hack/versions.sh

header=$(mktemp)
trap 'rm -f "${header}"' EXIT
cat >"${header}" <<'EOF'
// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0
EOF

go run k8s.io/code-generator/cmd/deepcopy-gen@"${CODE_GENERATOR_VERSION}" \
  --go-header-file "${header}" \
  --output-file zz_generated.deepcopy.go \
  ./pkg/api/v1alpha1
