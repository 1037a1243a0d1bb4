#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Regenerates everything that is generated, by the scripts hack/update-*.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for script in hack/update-*.sh; do
  echo "$script" >&2
  "$script"
done
