// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"net"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// DefaultEndpoint is where a server listens and a client calls if nobody says otherwise.
const DefaultEndpoint = "unix:///run/vch-driver/cmi.sock"

const (
	networkUnix = "unix"
	networkTCP  = "tcp"

	// maxSocketPath is what a socket address of Linux holds: 108 bytes, of which the
	// last is zero.
	maxSocketPath = 107
	// maxHostName is the longest name in DNS.
	maxHostName = 253

	rightEndpoints = "right are unix:///run/vch-driver/cmi.sock and tcp://host:port"
)

// Endpoint is where client and server meet. Only ParseEndpoint makes one that
// can be used; equal endpoints compare equal.
type Endpoint struct {
	network, address string
}

// ParseEndpoint reads an endpoint:
//
//   - unix:///run/vch-driver/cmi.sock is a socket in the file system. The short form
//     unix:/run/vch-driver/cmi.sock, which gRPC knows, is the same.
//   - tcp://host:port is a name, an IPv4 address or an IPv6 address in brackets, with
//     a port in digits. A server may leave the host out, which means all
//     addresses of its machine, and may give port 0, which means any free one.
//
// Nothing is decoded: what stands there is the path, or the host. Anything else is
// InvalidArgument, with a text that names the value and what would be right.
func ParseEndpoint(text string) (Endpoint, error) {
	var e Endpoint
	var why string
	scheme, rest, found := strings.Cut(text, ":")
	switch {
	case text == "":
		why = "it is empty"
	case !utf8.ValidString(text) || strings.ContainsFunc(text, isOdd):
		why = "it has white space or characters that do not print"
	case !found || strings.HasPrefix(text, "/"):
		why = "the scheme is missing"
	case scheme == networkUnix:
		e, why = parseSocketPath(rest)
	case scheme == networkTCP:
		e, why = parseHostPort(rest)
	default:
		why = "the scheme must be unix or tcp"
	}
	if why != "" {
		return Endpoint{}, errdefs.New(errdefs.InvalidArgument, "endpoint %q: %s; %s", withoutUser(text), why, rightEndpoints)
	}
	return e, nil
}

// parseSocketPath reads what stands behind "unix:", or says why it cannot be.
func parseSocketPath(rest string) (e Endpoint, why string) {
	socket := strings.TrimPrefix(rest, "//")
	private := len(path.Dir(socket)) + len("/") + len(privatePrefix) + privateDigits + len("/") + len(privateSocket)
	switch {
	case strings.HasPrefix(socket, "@"):
		return Endpoint{}, "abstract sockets are open to every process of the machine"
	case !strings.HasPrefix(socket, "/"):
		return Endpoint{}, "the path of a socket must be absolute, as unix:///" + socket
	case strings.ContainsAny(socket, "?#%"):
		// gRPC's clients would read them as parts of a URL.
		return Endpoint{}, "the path must be without ?, # and %"
	case socket == "/" || strings.HasSuffix(socket, "/"):
		return Endpoint{}, "the path must be that of a file"
	case path.Clean(socket) != socket:
		return Endpoint{}, "the path must be without empty parts, . and .., as " + path.Clean(socket)
	case len(socket) > maxSocketPath:
		return Endpoint{}, "the path has " + strconv.Itoa(len(socket)) + " bytes, and a socket's address holds " + strconv.Itoa(maxSocketPath)
	case private > maxSocketPath:
		return Endpoint{}, "the path's directory is " + strconv.Itoa(private-maxSocketPath) + " bytes too long: together with a temporary name it must be at most " + strconv.Itoa(maxSocketPath)
	}
	return Endpoint{network: networkUnix, address: socket}, ""
}

// parseHostPort reads what stands behind "tcp:", or says why it cannot be.
func parseHostPort(rest string) (e Endpoint, why string) {
	hostPort, ok := strings.CutPrefix(rest, "//")
	switch {
	case !ok:
		return Endpoint{}, "two slashes are missing behind tcp:"
	case strings.Contains(hostPort, "@"):
		return Endpoint{}, "a user does not belong there"
	case strings.ContainsAny(hostPort, "/?#%"):
		return Endpoint{}, "there must be nothing but host and port"
	case isIPv6(hostPort):
		return Endpoint{}, "an IPv6 address stands in brackets, as [::1]:port"
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil {
		return Endpoint{}, "it must have one port, and an IPv6 address stands in brackets"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return Endpoint{}, "the port must be a number from 0 to 65535"
	}
	bracketed := strings.HasPrefix(hostPort, "[")
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.Is6() == bracketed:
		host = ip.String()
	case bracketed:
		return Endpoint{}, "what stands in brackets must be an IPv6 address"
	case host != "" && !isHostName(host):
		return Endpoint{}, "the host must be a name or an IP address, or empty for all addresses of a server"
	}
	return Endpoint{network: networkTCP, address: net.JoinHostPort(strings.ToLower(host), strconv.FormatUint(number, 10))}, ""
}

// isOdd says which characters an operator could not see in an endpoint.
func isOdd(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }

func isIPv6(s string) bool {
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is6()
}

// isHostName accepts what resolvers accept, underscores included. A name whose
// last part is a number is a mistyped IPv4 address, or a short form that some
// resolvers read as one and others do not.
func isHostName(host string) bool {
	const part = `[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?`
	name := regexp.MustCompile(`^(` + part + `\.)*` + part + `\.?$`)
	numeric := regexp.MustCompile(`(^|\.)(0[xX][0-9A-Fa-f]*|[0-9]+)\.?$`)
	return len(host) <= maxHostName && name.MatchString(host) && !numeric.MatchString(host)
}

// withoutUser hides what stands before an @, which may be a password. In a path
// it is none.
func withoutUser(text string) string {
	at := strings.LastIndex(text, "@")
	if at < 0 || strings.HasPrefix(text, networkUnix+":") {
		return text
	}
	scheme, _, found := strings.Cut(text[:at], "://")
	if !found {
		return "xxxxx" + text[at:]
	}
	return scheme + "://xxxxx" + text[at:]
}

// Network is "unix" or "tcp".
func (e Endpoint) Network() string { return e.network }

// Address is the socket's path, or host:port.
func (e Endpoint) Address() string { return e.address }

// String is the endpoint as ParseEndpoint reads it.
func (e Endpoint) String() string {
	if e.network == "" {
		return ""
	}
	return e.network + "://" + e.address
}

// Loopback reports whether what is said there stays on this machine: a unix
// socket, an IP address of the loopback network, or localhost. No name is resolved.
func (e Endpoint) Loopback() bool {
	if e.network == networkUnix {
		return true
	}
	host := e.host()
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// host is the host of a TCP endpoint, empty for all addresses.
func (e Endpoint) host() string {
	host, _, err := net.SplitHostPort(e.address)
	if err != nil {
		return ""
	}
	return host
}

// Target is the endpoint as grpc.NewClient reads it.
//
// A name is left to the dialer, which resolves it at every attempt. gRPC's own
// resolver asks at most every 30 seconds, and a driver that was moved comes back at
// another address.
func (e Endpoint) Target() string {
	switch e.network {
	case networkUnix:
		return (&url.URL{Scheme: networkUnix, Path: e.address}).String()
	case networkTCP:
		return "passthrough:///" + e.address
	default:
		return ""
	}
}
