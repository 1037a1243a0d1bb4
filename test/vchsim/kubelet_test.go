// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const bootstrap = "abcdef.0123456789abcdef"

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write([]byte(text))
	must(t, err)
	must(t, w.Close())
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

func TestTheBootstrapTokenIsFoundInUserData(t *testing.T) {
	t.Parallel()
	text := "#cloud-config\nbootstrap-token: " + bootstrap + "\n"
	for encoding, data := range map[string]string{
		"": text, "base64": base64.StdEncoding.EncodeToString([]byte(text)), "gzip+base64": gzipped(t, text), "gz+b64": gzipped(t, text),
	} {
		if got, err := bootstrapToken(data, encoding); err != nil || got != bootstrap {
			t.Errorf("%q: %q, %v", encoding, got, err)
		}
	}
	for encoding, data := range map[string]string{"": "token: ABCDEF.0123456789ABCDEF", "base64": "%", "gzip+base64": "AAAA", "rot13": text} {
		if got, err := bootstrapToken(data, encoding); err == nil {
			t.Errorf("%q: %q", encoding, got)
		}
	}
}

// fakeKubemark notes its arguments, process id and bootstrap kubeconfig, makes a
// directory as the real one does, and stays.
const fakeKubemark = `#!/bin/sh
echo "$@" > "$OUT/args.$$"
echo "$$" > "$OUT/pid.$$"
for a in "$@"; do case $a in --bootstrap-kubeconfig=*) cp "${a#*=}" "$OUT/kubeconfig.$$";; esac; done
mkdir "$TMPDIR/hollow-kubelet.1"
mv "$OUT/pid.$$" "$OUT/ready.$$"
exec sleep 600
`

func joinWorld(t *testing.T, script string) (sim *Sim, out string) {
	t.Helper()
	dir, out := t.TempDir(), t.TempDir()
	config := clientcmdapi.NewConfig()
	config.Clusters["x"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:16443", CertificateAuthorityData: []byte("ca")}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: "administrator"}
	config.Contexts["x"] = &clientcmdapi.Context{Cluster: "x", AuthInfo: "admin"}
	config.CurrentContext = "x"
	kubeconfig := filepath.Join(dir, "kubeconfig")
	must(t, clientcmd.WriteToFile(*config, kubeconfig))
	kubemark := filepath.Join(dir, "kubemark")
	must(t, os.WriteFile(kubemark, []byte(strings.ReplaceAll(script, "$OUT", out)), 0o700))
	return start(t, Options{NoForeign: true, Kubeconfig: kubeconfig, Kubemark: kubemark}), out
}

// glob waits until a file matches and returns its content.
func glob(t *testing.T, pattern string) string {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			content, err := os.ReadFile(found[0])
			must(t, err)
			return string(content)
		}
	}
	t.Fatalf("%s did not appear", pattern)
	return ""
}

func withUserData(t *testing.T, sim *Sim, name string) types.VirtualMachineConfigSpec {
	t.Helper()
	spec := machineSpec(t, sim, name)
	spec.ExtraConfig = append(spec.ExtraConfig,
		&types.OptionValue{Key: "guestinfo.userdata", Value: gzipped(t, "token: "+bootstrap)},
		&types.OptionValue{Key: "guestinfo.userdata.encoding", Value: "gzip+base64"},
	)
	return spec
}

func TestAStartedMachineJoinsAsAHollowKubeletUntilItIsOff(t *testing.T) {
	t.Parallel()
	sim, out := joinWorld(t, fakeKubemark)
	client := login(t, sim)
	vm, err := create(t.Context(), sim, client, withUserData(t, sim, "worker"))
	must(t, err)
	must(t, run(t.Context(), vm.PowerOn))
	pid, err := strconv.Atoi(strings.TrimSpace(glob(t, out+"/ready.*")))
	must(t, err)
	args := glob(t, out+"/args.*")
	for _, want := range []string{"--morph=kubelet", "--name=worker", "--use-host-image-service=false", "--kubelet-port=", "--cert-dir="} {
		if !strings.Contains(args, want) {
			t.Errorf("%s is missing in %s", want, args)
		}
	}
	config, err := clientcmd.Load([]byte(glob(t, out+"/kubeconfig.*")))
	must(t, err)
	cluster, user := config.Clusters["c"], config.AuthInfos["bootstrap"]
	if cluster.Server != "https://127.0.0.1:16443" || string(cluster.CertificateAuthorityData) != "ca" || user.Token != bootstrap {
		t.Errorf("bootstrap kubeconfig %+v %+v", cluster, user)
	}
	must(t, run(t.Context(), vm.PowerOff))
	for deadline := time.Now().Add(20 * time.Second); syscall.Kill(pid, 0) == nil; {
		if time.Now().After(deadline) {
			t.Fatal("the kubelet outlives its machine")
		}
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		if left, _ := filepath.Glob(sim.Dir() + "/k*"); len(left) == 0 {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("left behind: %v", left)
		}
	}
}

func TestCloseEndsAllKubelets(t *testing.T) {
	t.Parallel()
	sim, out := joinWorld(t, fakeKubemark)
	client := login(t, sim)
	vm, err := create(t.Context(), sim, client, withUserData(t, sim, "worker"))
	must(t, err)
	must(t, run(t.Context(), vm.PowerOn))
	pid, err := strconv.Atoi(strings.TrimSpace(glob(t, out+"/ready.*")))
	must(t, err)
	sim.Close()
	if syscall.Kill(pid, 0) == nil {
		t.Error("the kubelet outlives the world")
	}
}

func TestAKubeletThatEndsIsReportedWithItsLastWords(t *testing.T) {
	t.Parallel()
	sim, _ := joinWorld(t, "#!/bin/sh\necho no containerd >&2\nexit 3\n")
	client := login(t, sim)
	vm, err := create(t.Context(), sim, client, withUserData(t, sim, "worker"))
	must(t, err)
	must(t, run(t.Context(), vm.PowerOn))
	for deadline := time.Now().Add(30 * time.Second); ; {
		if report := sim.GuestReports()["worker"]; strings.Contains(report, "exit status 3") && strings.Contains(report, "no containerd") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("report %q", report)
		}
	}
}

func TestAMachineWithoutTokenIsReported(t *testing.T) {
	t.Parallel()
	sim, _ := joinWorld(t, fakeKubemark)
	client := login(t, sim)
	started(t, sim, client, "worker")
	for deadline := time.Now().Add(20 * time.Second); ; {
		if strings.Contains(sim.GuestReports()["worker"], "no bootstrap token") {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(sim.GuestReports())
		}
	}
}

func TestABadKubeconfigOrKubemarkIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Start(t.Context(), Options{Dir: dir, Kubeconfig: dir + "/none"}); err == nil {
		t.Error("a kubeconfig that is not there was accepted")
	}
	empty := filepath.Join(dir, "empty")
	must(t, clientcmd.WriteToFile(*clientcmdapi.NewConfig(), empty))
	if _, err := Start(t.Context(), Options{Dir: dir, Kubeconfig: empty}); err == nil || !strings.Contains(err.Error(), "context") {
		t.Errorf("an empty kubeconfig: %v", err)
	}
	if left, _ := filepath.Glob(dir + "/vchsim-*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
