// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
)

// Options say what to run and where.
type Options struct {
	// Programs is the directory with etcd, kube-apiserver and kube-controller-manager.
	Programs string
	// Dir is an existing, empty directory for keys, kubeconfigs, logs and data.
	Dir string
}

// Cluster is a running control plane.
type Cluster struct {
	options   Options
	server    string
	authority *authority
	admin     *rest.Config
	processes []*process.Process
	etcdPort  int
	port      int // of the API server
}

// Start starts a control plane and returns when it answers and nodes can join it.
// When it fails, nothing is left running.
func Start(ctx context.Context, options Options) (_ *Cluster, err error) {
	ports, err := FreePorts(ctx, 4)
	if err != nil {
		return nil, err
	}
	authority, err := newAuthority()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		options: options, authority: authority, server: fmt.Sprintf("https://127.0.0.1:%d", ports[2]),
		etcdPort: ports[0], port: ports[2],
	}
	defer func() {
		if err != nil {
			c.Stop()
		}
	}()
	if err := c.writeKeys(); err != nil {
		return nil, err
	}
	if err := c.startEtcd(ctx, ports[0], ports[1]); err != nil {
		return nil, err
	}
	if err := c.StartAPIServer(ctx); err != nil {
		return nil, err
	}
	if err := c.startControllers(ctx, ports[3]); err != nil {
		return nil, err
	}
	return c, c.allowBootstrap(ctx)
}

// Stop ends all programs of the control plane at once; its data is of no use
// afterwards. It may be repeated.
func (c *Cluster) Stop() {
	var all sync.WaitGroup
	for _, p := range c.processes {
		all.Go(func() { p.Stop(0) })
	}
	all.Wait()
}

// Processes are the running programs.
func (c *Cluster) Processes() []*process.Process { return c.processes }

// Server is the URL of the API server.
func (c *Cluster) Server() string { return c.server }

// Admin is a client's configuration with all rights. It is the caller's to change.
func (c *Cluster) Admin() *rest.Config { return rest.CopyConfig(c.admin) }

// AdminKubeconfig is the path of a kubeconfig with all rights.
func (c *Cluster) AdminKubeconfig() string { return filepath.Join(c.options.Dir, "admin.kubeconfig") }

// AuditLog is the path of the API server's audit log: one JSON event per line for
// each request of a service account.
func (c *Cluster) AuditLog() string { return filepath.Join(c.options.Dir, "audit.log") }

func (c *Cluster) writeKeys() error {
	dir := c.options.Dir
	server, err := c.authority.server("kube-apiserver", "kubernetes.default.svc")
	if err != nil {
		return err
	}
	_, tokenKey, err := newKey()
	if err != nil {
		return err
	}
	err = errors.Join(
		c.authority.write(dir, "ca"),
		server.write(dir, "apiserver"),
		os.WriteFile(filepath.Join(dir, "token.key"), tokenKey, 0o600),
		os.WriteFile(filepath.Join(dir, "audit.yaml"), []byte(auditPolicy), 0o600),
	)
	if err != nil {
		return fmt.Errorf("write the keys of the cluster: %w", err)
	}
	c.admin, err = c.clientKubeconfig(c.AdminKubeconfig(), "admin", "system:masters")
	if err != nil {
		return err
	}
	_, err = c.clientKubeconfig(filepath.Join(dir, "controllers.kubeconfig"), "system:kube-controller-manager")
	return err
}

// auditPolicy records what service accounts do, without contents.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts"]
- level: None
`

func (c *Cluster) allowBootstrap(ctx context.Context) error {
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	roles := map[string]string{
		"nodes-may-ask-for-certificates": "system:node-bootstrapper",
		"nodes-are-granted-certificates": "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
	}
	for name, role := range roles {
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:bootstrappers"}},
		}
		if _, err := client.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("bind the role %s to nodes that join: %w", role, err)
		}
	}
	return nil
}
