// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// joiners are the hollow kubelets of all machines that run.
type joiners struct {
	sim      *Sim
	enabled  bool
	kubemark string
	cluster  *clientcmdapi.Cluster

	mu     sync.Mutex
	count  int
	closed bool
	wg     sync.WaitGroup
}

// tokenPattern is the form of Kubernetes' bootstrap tokens.
var tokenPattern = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b`)

func (j *joiners) start(s *Sim) error {
	j.sim = s
	if s.options.Kubeconfig == "" {
		return nil
	}
	config, err := clientcmd.LoadFromFile(s.options.Kubeconfig)
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", s.options.Kubeconfig, err)
	}
	current, ok := config.Contexts[config.CurrentContext]
	if !ok || config.Clusters[current.Cluster] == nil {
		return fmt.Errorf("kubeconfig %s: current context %q names no cluster", s.options.Kubeconfig, config.CurrentContext)
	}
	j.cluster = config.Clusters[current.Cluster].DeepCopy()
	if j.cluster.CertificateAuthority != "" {
		if j.cluster.CertificateAuthorityData, err = os.ReadFile(j.cluster.CertificateAuthority); err != nil {
			return fmt.Errorf("kubeconfig %s: read certificate authority: %w", s.options.Kubeconfig, err)
		}
		j.cluster.CertificateAuthority = ""
	}
	if j.kubemark, err = exec.LookPath(s.options.Kubemark); err != nil {
		return fmt.Errorf("find kubemark: %w", err)
	}
	if j.kubemark, err = filepath.Abs(j.kubemark); err != nil {
		return fmt.Errorf("find kubemark: %w", err)
	}
	j.enabled = true
	return nil
}

// join starts the kubelet of a machine that has just started. A VM without our
// mark or without a token in its userData joins nothing.
func (j *joiners) join(inside *guest, keys map[string]string) {
	if !j.enabled || markOf(keys) == nil {
		return
	}
	token, err := bootstrapToken(keys["guestinfo.userdata"], keys["guestinfo.userdata.encoding"])
	if err != nil {
		j.report(inside, fmt.Sprintf("join: %v", err))
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	j.count++
	// Short, because it holds a unix socket, whose path may have 108 bytes.
	dir := filepath.Join(j.sim.dir, fmt.Sprintf("k%d", j.count))
	j.wg.Go(func() {
		if err := j.run(inside, dir, token); err != nil {
			j.report(inside, fmt.Sprintf("kubelet: %v", err))
		}
	})
}

func (j *joiners) close() {
	j.mu.Lock()
	j.closed = true
	j.mu.Unlock()
	// The guests are ended first, which ends their kubelets.
	j.wg.Wait()
}

func (j *joiners) report(inside *guest, why string) {
	g := &j.sim.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reports[inside.machine] = why
}

// bootstrapToken finds the token in a VM's userData, as cloud-init's VMware
// datasource publishes it: plain, base64 or gzip+base64.
func bootstrapToken(data, encoding string) (string, error) {
	raw := []byte(data)
	switch encoding {
	case "":
	case "base64", "b64", "gzip+base64", "gz+b64":
		var err error
		if raw, err = base64.StdEncoding.DecodeString(data); err != nil {
			return "", fmt.Errorf("userData is not base64: %w", err)
		}
		if strings.HasPrefix(encoding, "gz") {
			unpacked, err := gzip.NewReader(bytes.NewReader(raw))
			if err != nil {
				return "", fmt.Errorf("userData is not gzip: %w", err)
			}
			if raw, err = io.ReadAll(io.LimitReader(unpacked, 16<<20)); err != nil {
				return "", fmt.Errorf("userData is not gzip: %w", err)
			}
		}
	default:
		return "", fmt.Errorf("userData has unknown encoding %q", encoding)
	}
	token := tokenPattern.Find(raw)
	if token == nil {
		return "", errors.New("userData holds no bootstrap token")
	}
	return string(token), nil
}

// attempts is how often a kubelet that ends by itself is started: another
// program may have taken one of its ports in between.
const attempts = 5

// run keeps a kubelet running until the VM is off, and removes its traces.
func (j *joiners) run(inside *guest, dir, token string) error {
	defer func() {
		// What stays is removed with the world.
		_ = os.RemoveAll(dir)
	}()
	if err := os.MkdirAll(filepath.Join(dir, "t"), 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	bootstrap := filepath.Join(dir, "bootstrap")
	if err := clientcmd.WriteToFile(j.kubeconfig(token), bootstrap); err != nil {
		return fmt.Errorf("write bootstrap kubeconfig: %w", err)
	}
	for attempt := 1; ; attempt++ {
		err := j.kubelet(inside, dir, bootstrap)
		if err == nil {
			return nil // switched off
		}
		if attempt == attempts {
			return err
		}
		if !inside.sleep(time.Second) {
			return nil
		}
	}
}

func (j *joiners) kubeconfig(token string) clientcmdapi.Config {
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = j.cluster
	config.AuthInfos["bootstrap"] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "bootstrap"}
	config.CurrentContext = "c"
	return *config
}

// kubelet runs one process until it ends or the VM is off, which is nil.
func (j *joiners) kubelet(inside *guest, dir, bootstrap string) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer func() { _ = log.Close() }() // the process writes through its own handle
	// A kubelet cannot be told its provider id here: kubemark sets kubemark://<name>,
	// and the API server lets nobody change it.
	cmd := exec.CommandContext(ctx, j.kubemark,
		"--morph=kubelet",
		"--use-host-image-service=false",
		"--name="+inside.machine,
		"--bootstrap-kubeconfig="+bootstrap,
		"--kubeconfig="+filepath.Join(dir, "kubeconfig"),
		"--cert-dir="+filepath.Join(dir, "pki"),
		fmt.Sprintf("--kubelet-port=%d", ports[0]),
		fmt.Sprintf("--kubelet-read-only-port=%d", ports[1]),
	)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "TMPDIR=" + filepath.Join(dir, "t")}
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start kubemark: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-inside.off:
		cancel() // a power-off is no shutdown
		<-ended  //nolint:errcheck // it was killed
		return nil
	case err := <-ended:
		return fmt.Errorf("kubemark ended by itself (%v); its last words: %s", err, tail(log.Name())) //nolint:errorlint // may be nil
	}
}

// freePorts returns ports that are free on all addresses at the moment: kubemark
// listens on all, and cannot choose a port by itself.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", ":0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }() // whose only use was its number
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, fmt.Errorf("find a free port: %s is not a TCP address", l.Addr())
		}
		ports = append(ports, addr.Port)
	}
	return ports, nil
}

// tail returns the end of a log.
func tail(file string) string {
	const most = 600
	content, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(content[max(0, len(content)-most):])
}
