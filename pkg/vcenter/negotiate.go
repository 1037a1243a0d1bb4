// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"encoding/xml"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/soap"
)

const (
	// oldestVersion is spoken if vCenter does not tell its version: VIC needs vSphere 6.0.
	oldestVersion   = "6.0"
	maxVersionsFile = 64 << 10
)

// negotiate returns the API version to speak: the older one of vCenter's and
// govmomi's. vCenter publishes its own without a login. Without this, a vCenter
// of VIC's time would have to make sense of a version that it has never heard of.
func negotiate(ctx context.Context, c *soap.Client) (string, error) {
	u := c.URL()
	u.Path = vim25.Path + "/vimServiceVersions.xml"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", c.UserAgent)
	res, err := c.Client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return oldestVersion, nil
	}
	var v struct {
		Namespace []struct {
			Name    string `xml:"name"`
			Version string `xml:"version"`
		} `xml:"namespace"`
	}
	if err := xml.NewDecoder(io.LimitReader(res.Body, maxVersionsFile)).Decode(&v); err != nil {
		return oldestVersion, nil // what cannot be understood tells no version
	}
	for _, ns := range v.Namespace {
		if ns.Name == "urn:"+vim25.Namespace && ns.Version != "" {
			return olderVersion(ns.Version, vim25.Version), nil
		}
	}
	return oldestVersion, nil
}

// olderVersion returns the lower one of two dotted versions.
func olderVersion(a, b string) string {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		x, y := part(as, i), part(bs, i)
		switch {
		case x < y:
			return a
		case x > y:
			return b
		}
	}
	return a
}

func part(parts []string, i int) int {
	if i >= len(parts) {
		return 0
	}
	n, err := strconv.Atoi(parts[i])
	if err != nil {
		return 0
	}
	return n
}
