// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package dial has the flags by which a program reaches a driver that serves CMI:
// the machine-controller's, and those of vch-driver's own probe.
package dial

import (
	"fmt"

	"github.com/spf13/pflag"
	"google.golang.org/grpc/credentials"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
)

// Flags say where a driver is and how the connection is secured.
type Flags struct {
	// Endpoint is the text of the flag; AddTo gives it its default.
	Endpoint string

	prefix   string
	insecure bool
	files    cmi.TLSFiles
}

// AddTo adds the flags to fs, their names behind prefix. endpoint and usage are
// those of the flag for the endpoint.
func (f *Flags) AddTo(fs *pflag.FlagSet, prefix, endpoint, usage string) {
	f.prefix = prefix
	fs.StringVar(&f.Endpoint, prefix+"endpoint", endpoint, usage)
	fs.BoolVar(&f.insecure, prefix+"insecure", false, "Use TCP without TLS; only to a loopback address.")
	fs.StringVar(&f.files.CertFile, prefix+"tls-cert-file", "", "Certificate of this client, PEM; required for TCP. Read again at each connection.")
	fs.StringVar(&f.files.KeyFile, prefix+"tls-key-file", "", "Key of that certificate, PEM.")
	fs.StringVar(&f.files.CAFile, prefix+"tls-ca-file", "", "Certificates that sign the driver's, PEM.")
	fs.StringVar(&f.files.ServerName, prefix+"tls-server-name", "", "Name in the driver's certificate, if it is not the endpoint's host.")
}

// Parse reads the endpoint. An error names the flag.
func (f *Flags) Parse() (cmi.Endpoint, error) {
	endpoint, err := cmi.ParseEndpoint(f.Endpoint)
	if err != nil {
		return endpoint, fmt.Errorf("--%sendpoint: %w", f.prefix, err)
	}
	return endpoint, nil
}

// Driver returns the endpoint and what secures a connection to it. An error names
// the flags that do not fit.
func (f *Flags) Driver() (cmi.Endpoint, credentials.TransportCredentials, error) {
	endpoint, err := f.Parse()
	if err != nil {
		return endpoint, nil, err
	}
	secured, err := cmi.ClientCredentials(endpoint, f.files, f.insecure)
	if err != nil {
		return endpoint, nil, fmt.Errorf("--%[1]sinsecure, --%[1]stls-cert-file, --%[1]stls-key-file, --%[1]stls-ca-file: %[2]w", f.prefix, err)
	}
	return endpoint, secured, nil
}
