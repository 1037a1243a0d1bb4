#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0

# Regenerates the mocks. The version of mockgen is that of go.uber.org/mock in go.mod.
set -o errexit -o nounset -o pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

header="$(mktemp)"
trap 'rm -f "${header}"' EXIT
printf '%s\n%s' \
  'SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors' \
  'SPDX-License-Identifier: Apache-2.0' >"${header}"

version="$(go list -m -f '{{.Version}}' go.uber.org/mock)"
go run "go.uber.org/mock/mockgen@${version}" \
  -source pkg/spi/spi.go \
  -destination pkg/spi/mock/zz_generated.mock.go \
  -package mock \
  -copyright_file "${header}" \
  -write_source_comment=false \
  -write_command_comment=false \
  -write_package_comment=false
