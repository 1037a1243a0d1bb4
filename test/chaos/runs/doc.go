// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package runs has the runs of test/chaos that need a control plane. hack/test.sh runs
// the short one, hack/chaos.sh the others.
package runs
