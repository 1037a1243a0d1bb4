// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package controller runs MCM's own integration framework on this provider: ten
// specs on Machines and MachineDeployments, the last of which asks our resources
// tracker whether anything is left over in the vCenter.
//
// The suite is useless on its own: the framework expects a workspace of a certain
// shape, clusters in its environment, and ends processes by their names.
// test/integration prepares all that in a private PID and network namespace and
// runs it; hack/integration.sh starts it. Under plain `go test` there is nothing to
// test, because the suite is compiled only with the build tag integration.
package controller
