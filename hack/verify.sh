#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Checks what can be checked without running the code: scripts, modules,
# generated files, vet, lint and formatting. All checks run; it fails if one did.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
hack/prerequisites.sh

scripts() {
  local file bad=0
  for file in hack/*.sh .ci/run; do
    bash -n "$file" || bad=1
    if [ "$(head -c 2 "$file")" = '#!' ] && [ ! -x "$file" ]; then
      echo "$file is not executable" >&2
      bad=1
    fi
  done
  return $bad
}

# test/promql is left out: to tidy it fetches the libraries of all clouds, 760 MB.
# That nothing is missing shows when it is built.
modules() {
  local dir bad=0
  for dir in . test/controlplane test/foreign; do
    (cd "$dir" && go mod verify >/dev/null && go mod tidy -diff) || {
      echo "go.mod or go.sum of $dir is not tidy: run go mod tidy there" >&2
      bad=1
    }
  done
  return $bad
}

# What is in the work tree, by content, without what git ignores.
snapshot() {
  git ls-files -z --cached --others --exclude-standard | sort -z -u |
    while IFS= read -r -d '' file; do [ ! -f "$file" ] || sha256sum "$file"; done
}

generated() {
  local before after
  before=$(snapshot)
  hack/generate.sh || return 1
  after=$(snapshot)
  if [ "$before" != "$after" ]; then
    echo "generated files were out of date and are regenerated now:" >&2
    diff <(echo "$before") <(echo "$after") | sed -n 's/^> [0-9a-f]*  /  /p' >&2
    return 1
  fi
}

vet() { go vet ./... && go vet -tags integration ./test/integration/...; }

# These are modules of their own, which ./... leaves out.
nested() { go vet -C test/foreign ./... && go vet -C test/promql ./...; }

failed=()
for check in scripts modules generated vet nested lint; do
  echo "verify: $check" >&2
  begin=$SECONDS
  run=$check
  [ "$check" != lint ] || run=hack/lint.sh
  if "$run"; then
    echo "verify: $check ok ($((SECONDS - begin)) s)" >&2
  else
    echo "verify: $check FAILED ($((SECONDS - begin)) s)" >&2
    failed+=("$check")
  fi
done

if [ ${#failed[@]} -gt 0 ]; then
  echo "verify: FAILED: ${failed[*]}" >&2
  exit 1
fi
echo "verify: all ok" >&2
