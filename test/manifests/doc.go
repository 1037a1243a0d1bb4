// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package manifests holds the tests of what users apply: the manifests in
// kubernetes/ are decoded strictly, each into its type; class and Secret are
// judged as the provider judges them; the rights are compared, in both
// directions, with a table of what machine-controller-manager v0.62.1 asks for.
//
// There are two variants of the Deployment, with the driver in the
// machine-controller and with the driver as a container of its own. Both have to
// pass, and differ in nothing but what the driver's container needs.
//
// Whether the rights suffice in practice is shown in test/e2e, where the
// controllers have no others.
package manifests
