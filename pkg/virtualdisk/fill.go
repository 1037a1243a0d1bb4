// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // vCenter's manifests have SHA-1
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// streamType is what hosts want streamOptimized disks to be called.
const streamType = "application/x-vnd.vmware-streamVmdk"

// fill sends the content to the host, tells the lease meanwhile that somebody is
// there, and compares what the host received.
func (m *Maker) fill(ctx context.Context, l *lease, content *summed, size int64, progress func(done, total int64)) error {
	device, err := diskOf(l)
	if err != nil {
		return err
	}
	address, done, err := m.address(device)
	if err != nil {
		return err
	}
	defer done()
	var sent atomic.Int64
	sending, stop := m.keepAlive(ctx, l, func() int32 { return percent(sent.Load(), size) })
	err = m.o.Files.Upload(sending, "send a disk to "+hostOf(address.URL), address, content, size, func(n int64) {
		sent.Store(n)
		progress(n, size)
	})
	lost := stop()
	switch {
	case err == nil:
		return m.compare(ctx, l, device, content, size)
	case ctx.Err() != nil:
		return err
	case lost != nil:
		return lost
	}
	// The host's answer says little; the lease may know why.
	if fault := m.leaseFault(ctx, l); fault != nil {
		return vcenter.Convert(fault, "send a disk to %s (%v)", hostOf(address.URL), err)
	}
	return err
}

// diskOf returns the one disk of a lease.
func diskOf(l *lease) (types.HttpNfcLeaseDeviceUrl, error) {
	for _, d := range l.info.DeviceUrl {
		if d.Disk != nil && *d.Disk {
			return d, nil
		}
	}
	return types.HttpNfcLeaseDeviceUrl{}, errdefs.New(errdefs.Internal, "the lease of VM %s lends no disk", l.info.Entity.Value)
}

// address says where the disk goes and who is believed to be there. done frees
// what that took.
func (m *Maker) address(device types.HttpNfcLeaseDeviceUrl) (address datastore.Address, done func(), err error) {
	u, err := url.Parse(device.Url)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return address, nil, errdefs.New(errdefs.Internal, "vCenter wants the disk at %q, which is no https address", device.Url)
	}
	own := m.o.Client.Vim().URL()
	switch host, port := u.Hostname(), u.Port(); {
	case host == "*" && port == "":
		u.Host = own.Host
	case host == "*":
		u.Host = net.JoinHostPort(own.Hostname(), port)
	}
	address = datastore.Address{Method: http.MethodPost, URL: u.String(), ContentType: streamType}
	if device.SslThumbprint == "" {
		return address, func() {}, nil // the host is as good as vCenter
	}
	want, err := hex.DecodeString(strings.ReplaceAll(device.SslThumbprint, ":", ""))
	if err != nil || len(want) != sha1.Size && len(want) != sha256.Size {
		return address, nil, errdefs.New(errdefs.Internal, "vCenter calls %q the thumbprint of %s", device.SslThumbprint, u.Host)
	}
	transport := m.o.Client.Vim().DefaultTransport().Clone()
	trust := &tls.Config{MinVersion: tls.VersionTLS12}
	trust.InsecureSkipVerify = true // VerifyConnection compares the thumbprint instead
	trust.VerifyConnection = func(state tls.ConnectionState) error { return verify(u.Host, want, state) }
	transport.TLSClientConfig = trust
	address.Client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return address, transport.CloseIdleConnections, nil
}

// verify compares the certificate of a host with the thumbprint that vCenter knows.
func verify(host string, want []byte, state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errdefs.New(errdefs.FailedPrecondition, "host %s sent no certificate", host)
	}
	raw := state.PeerCertificates[0].Raw
	sum1, sum256 := sha1.Sum(raw), sha256.Sum256(raw) //nolint:gosec // see the import
	if bytes.Equal(want, sum1[:]) || bytes.Equal(want, sum256[:]) {
		return nil
	}
	return errdefs.New(errdefs.FailedPrecondition, "the certificate of host %s is not the one that vCenter knows: somebody stands between, or it was renewed and the host not connected again", host)
}

// hostOf is a URL without what gives the right to use it.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "a host"
	}
	return "host " + u.Host
}

// keepAlive tells the lease at intervals how far the transfer is, since one that
// hears nothing ends. The context that it returns ends when the lease is lost;
// stop ends the telling and returns why.
func (m *Maker) keepAlive(ctx context.Context, l *lease, progress func() int32) (sending context.Context, stop func() error) {
	interval := renewal
	if limit := time.Duration(l.info.LeaseTimeout) * time.Second / 3; limit > 0 {
		interval = min(interval, limit)
	}
	sending, cancel := context.WithCancelCause(ctx)
	ticker := m.o.Clock.NewTicker(interval)
	ended := make(chan error, 1)
	go func() {
		defer ticker.Stop()
		for {
			select {
			case <-sending.Done():
				ended <- nil
				return
			case <-ticker.C():
			}
			_, err := methods.HttpNfcLeaseProgress(sending, m.o.Client.Vim(), &types.HttpNfcLeaseProgress{This: l.ref, Percent: progress()})
			switch err = vcenter.Convert(err, "keep the lease of VM %s", l.info.Entity.Value); errdefs.KindOf(err) {
			case "", errdefs.Unavailable, errdefs.Canceled:
				// What passes is made good by the next one.
			default:
				ended <- err
				cancel(err)
				return
			}
		}
	}()
	return sending, func() error {
		cancel(nil)
		return <-ended
	}
}

// leaseFault is why a lease has failed, as far as vCenter tells.
func (m *Maker) leaseFault(ctx context.Context, l *lease) error {
	var o mo.HttpNfcLease
	if err := property.DefaultCollector(m.o.Client.Vim()).RetrieveOne(ctx, l.ref, []string{"state", "error"}, &o); err != nil {
		klog.FromContext(ctx).V(1).Info("Could not ask a lease why it failed", "reason", err.Error())
		return nil
	}
	if o.Error == nil {
		return nil
	}
	return &task.Error{LocalizedMethodFault: o.Error}
}

// compare checks that the host has received what was sent: by the checksum, and by
// the size if vCenter has none.
func (m *Maker) compare(ctx context.Context, l *lease, device types.HttpNfcLeaseDeviceUrl, content *summed, size int64) error {
	res, err := methods.HttpNfcLeaseGetManifest(ctx, m.o.Client.Vim(), &types.HttpNfcLeaseGetManifest{This: l.ref})
	if err != nil {
		return vcenter.Convert(err, "ask for the checksum of the disk of VM %s", l.info.Entity.Value)
	}
	for _, entry := range res.Returnval {
		if entry.Key != device.Key {
			continue
		}
		got, want := entry.Sha1, content.sha1()
		if got == "" && strings.EqualFold(entry.ChecksumType, string(types.HttpNfcLeaseManifestEntryChecksumTypeSha256)) {
			if got = entry.Checksum; got != "" {
				if want, err = content.sha256(size); err != nil {
					return err
				}
			}
		}
		switch {
		case got != "" && !strings.EqualFold(got, want):
			return errdefs.New(errdefs.Unavailable, "the disk of VM %s arrived damaged: its checksum is %s, not %s", l.info.Entity.Value, got, want)
		case got == "" && entry.Size > 0 && entry.Size != size:
			return errdefs.New(errdefs.Unavailable, "the disk of VM %s arrived with %d bytes of %d", l.info.Entity.Value, entry.Size, size)
		}
		return nil
	}
	// Some releases keep manifests of exports alone. The host has decoded the disk.
	return nil
}

// summed is content whose checksum is computed while it is sent, from front to back.
type summed struct {
	from io.ReaderAt
	hash hash.Hash
	at   int64
}

func newSummed(from io.ReaderAt) *summed {
	return &summed{from: from, hash: sha1.New()} //nolint:gosec // see the import
}

// ReadAt reads; a read at 0 begins anew.
func (s *summed) ReadAt(p []byte, at int64) (int, error) {
	n, err := s.from.ReadAt(p, at)
	if at == 0 {
		s.hash.Reset()
		s.at = 0
	}
	if at == s.at {
		s.hash.Write(p[:n])
		s.at += int64(n)
	}
	return n, err
}

func (s *summed) sha1() string { return hex.EncodeToString(s.hash.Sum(nil)) }

// sha256 reads everything once more: few ask.
func (s *summed) sha256(size int64) (string, error) {
	sum := sha256.New()
	if _, err := io.Copy(sum, io.NewSectionReader(s.from, 0, size)); err != nil {
		return "", errdefs.Wrap(errdefs.Internal, err, "read the disk once more")
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
