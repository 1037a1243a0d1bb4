// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
)

// startTimeout is how long one program may take until it is ready. On two busy
// cores the API server needs a few seconds.
const startTimeout = 2 * time.Minute

// controllers are those that joining, draining and leaving nodes need, and those
// that remove what MCM leaves to the cluster.
const controllers = "bootstrap-signer-controller,certificatesigningrequest-approving-controller,certificatesigningrequest-signing-controller,clusterrole-aggregation-controller," +
	"garbage-collector-controller,namespace-controller,node-lifecycle-controller,pod-garbage-collector-controller," +
	"root-ca-certificate-publisher-controller,serviceaccount-controller,token-cleaner-controller"

func (c *Cluster) startEtcd(ctx context.Context, clientPort, peerPort int) error {
	clients, peers := fmt.Sprintf("http://127.0.0.1:%d", clientPort), fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	return c.start(ctx, "etcd", clients+"/readyz",
		"--name=loopback", "--data-dir="+filepath.Join(c.options.Dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=loopback="+peers)
}

// apiServer is the name of a program.
const apiServer = "kube-apiserver"

// KillAPIServer ends the API server as a crash would; etcd and the controllers go on.
// It is not to be called at the same time as another method.
func (c *Cluster) KillAPIServer() {
	c.processes = slices.DeleteFunc(c.processes, func(p *process.Process) bool {
		if p.Name() == apiServer {
			p.Stop(0)
		}
		return p.Name() == apiServer
	})
}

// StartAPIServer starts the API server that KillAPIServer has ended, with the same
// address, and returns when it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	dir, etcdPort, port := c.options.Dir, c.etcdPort, c.port
	return c.start(ctx, apiServer, c.server+"/readyz",
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcdPort),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		// Without these two it looks for a default route, which a private network has not.
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		"--cert-dir="+filepath.Join(dir, "generated"),
		"--tls-cert-file="+filepath.Join(dir, "apiserver.crt"), "--tls-private-key-file="+filepath.Join(dir, "apiserver.key"),
		"--client-ca-file="+filepath.Join(dir, "ca.crt"),
		"--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-signing-key-file="+filepath.Join(dir, "token.key"), "--service-account-key-file="+filepath.Join(dir, "token.key"),
		"--service-account-max-token-expiration="+lifetime.String(),
		"--authorization-mode=Node,RBAC", "--enable-bootstrap-token-auth=true",
		"--audit-policy-file="+filepath.Join(dir, "audit.yaml"), "--audit-log-path="+c.AuditLog(), "--audit-log-mode=blocking",
		"--profiling=false", "--v=1")
}

func (c *Cluster) startControllers(ctx context.Context, port int) error {
	dir := c.options.Dir
	return c.start(ctx, "kube-controller-manager", fmt.Sprintf("https://127.0.0.1:%d/healthz", port),
		"--kubeconfig="+filepath.Join(dir, "controllers.kubeconfig"),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file="+filepath.Join(dir, "apiserver.crt"), "--tls-private-key-file="+filepath.Join(dir, "apiserver.key"),
		"--leader-elect=false", "--use-service-account-credentials=true",
		"--service-account-private-key-file="+filepath.Join(dir, "token.key"), "--root-ca-file="+filepath.Join(dir, "ca.crt"),
		"--cluster-signing-cert-file="+filepath.Join(dir, "ca.crt"), "--cluster-signing-key-file="+filepath.Join(dir, "ca.key"),
		"--controllers="+controllers, "--profiling=false", "--v=1")
}

// start starts a program and waits until its health URL answers 200.
func (c *Cluster) start(ctx context.Context, name, health string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p, err := process.Start(ctx, process.Command{Name: name, Path: filepath.Join(c.options.Programs, name), Args: args, LogDir: c.options.Dir})
	if err != nil {
		return err
	}
	c.processes = append(c.processes, p)
	trust, err := c.trust()
	if err != nil {
		return err
	}
	return p.WaitReady(ctx, process.HTTP(health, trust))
}

// trust is for clients of the cluster's servers, with the admin's certificate.
func (c *Cluster) trust() (*tls.Config, error) {
	certificate, err := tls.X509KeyPair(c.admin.CertData, c.admin.KeyData)
	if err != nil {
		return nil, fmt.Errorf("load the admin's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.authority.cert)
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{certificate}}, nil
}
