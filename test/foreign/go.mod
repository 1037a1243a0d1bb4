// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// A foreign client of the Cloud Machine Interface. It is nested because the
// protocol's archived public library and pkg/api/cmi/v1 register the same proto
// package, and one program cannot hold both. test/wire builds it.
module github.com/mcm-vch/machine-controller-manager-provider-vch/test/foreign

go 1.26.2

require (
	github.com/gardener/machine-spec v0.5.0
	github.com/golang/protobuf v1.5.4
	google.golang.org/grpc v1.80.0
)

require (
	golang.org/x/net v0.49.0 // indirect
	golang.org/x/sys v0.40.0 // indirect
	golang.org/x/text v0.33.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260120221211-b8f7ae30c516 // indirect
	google.golang.org/protobuf v1.36.11 // indirect
)
