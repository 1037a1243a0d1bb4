// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// What must not be seen anywhere. The characters are written in different ways by
// different encodings.
const (
	plantedPassword = `pl4nted"own&päss/w+rd%20`
	plantedWrong    = `pl4nted-wrong'<pass>/w+rd=`
	plantedToken    = `pl4nted-token-of-the-userdata`
	plantedValue    = `pl4nted-value-of-the-environment`
	plantedKey      = `pl4nted-value-for-the-environment-from-the-secret`
)

// spellings are the ways in which a secret could stand somewhere.
func spellings(t *testing.T, secret string) []string {
	t.Helper()
	quoted := strconv.Quote(secret)
	ascii := strconv.QuoteToASCII(secret)
	inJSON, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	found := []string{
		secret, quoted[1 : len(quoted)-1], ascii[1 : len(ascii)-1], string(inJSON[1 : len(inJSON)-1]), html.EscapeString(secret),
		url.QueryEscape(secret), url.PathEscape(secret), fmt.Sprintf("%x", secret), fmt.Sprintf("%d", []byte(secret)),
	}
	// Base64 of a text that stands in the middle of another one has three forms.
	for skip := range 3 {
		text := []byte(strings.Repeat("x", skip) + secret)
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			encoded := encoding.EncodeToString(text)
			found = append(found, encoded[(skip*8+5)/6:len(encoded)-2])
		}
	}
	// A prefix is enough of a hint: lines are cut somewhere.
	return slices.Compact(slices.Sorted(slices.Values(append(found, "pl4nted"))))
}

func wantNone(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{plantedPassword, plantedWrong, plantedToken, plantedValue, plantedKey} {
		for _, spelling := range spellings(t, secret) {
			if i := strings.Index(text, spelling); i >= 0 {
				t.Errorf("%s shows %q as %q: …%s…", where, secret, spelling, text[max(0, i-200):min(len(text), i+100)])
				return
			}
		}
	}
}

// plantedSecret is the Secret of a class of the simulated VCH.
func plantedSecret(sim *vchsim.Sim) map[string][]byte {
	data := sim.Secret()
	data[v1alpha1.SecretUserData] = []byte("#cloud-config\nbootstrap-token: " + plantedToken + "\n")
	data["key"] = []byte(plantedKey)
	return data
}

// plantedSpecs are ProviderSpecs with a value in the environment: one that is
// right and some that are wrong in different ways.
func plantedSpecs(t *testing.T, sim *vchsim.Sim) map[string][]byte {
	t.Helper()
	env := []any{
		map[string]any{"name": "PLAIN", "value": plantedValue},
		map[string]any{"name": "FROM", "valueFrom": map[string]any{"secretKey": "key"}},
	}
	with := func(changes map[string]any) []byte {
		if _, found := changes["env"]; !found {
			changes["env"] = env
		}
		return specOf(t, sim, changes)
	}
	right := with(map[string]any{})
	return map[string][]byte{
		"right":                  right,
		"an unknown field":       with(map[string]any{"unknown": plantedValue}),
		"a value of another use": with(map[string]any{"env": []any{map[string]any{"name": "X", "value": plantedValue + "\x00"}}}),
		"a value and a source":   with(map[string]any{"env": []any{map[string]any{"name": "X", "value": plantedValue, "valueFrom": map[string]any{"secretKey": "key"}}}}),
		"a list as value":        with(map[string]any{"env": []any{map[string]any{"name": "X", "value": []string{plantedValue}}}}),
		"a text for a list":      with(map[string]any{"env": plantedValue}),
		"the same name twice":    with(map[string]any{"env": append(env, map[string]any{"name": "PLAIN", "value": plantedValue + "2"})}),
		"a key that is missing":  with(map[string]any{"env": []any{map[string]any{"name": "X", "valueFrom": map[string]any{"secretKey": "missing"}}, env[0]}}),
		"no command":             with(map[string]any{"command": nil}),
		"another VCH":            with(map[string]any{"vch": map[string]any{"datacenter": "DC0", "name": "none"}}),
		"cut off":                right[:len(right)-2],
		"no JSON and no YAML":    []byte("\t{" + plantedValue),
		"YAML":                   []byte("env: {X: " + plantedValue + "}"),
		"a text":                 []byte(`"` + plantedValue + `"`),
	}
}

// allCalls makes every call of the service Machine and returns their errors' texts.
func allCalls(ctx context.Context, client cmiv1.MachineClient, machine string, spec []byte, secret map[string][]byte) (done int, errs []string) {
	note := func(err error) {
		if err == nil {
			done++
			return
		}
		errs = append(errs, status.Convert(err).String(), fmt.Sprint(status.Convert(err).Details()...))
	}
	_, err := client.GetMachineStatus(ctx, &cmiv1.GetMachineStatusRequest{MachineName: machine, ProviderSpec: spec, Secrets: secret})
	note(err)
	_, err = client.CreateMachine(ctx, &cmiv1.CreateMachineRequest{MachineName: machine, ProviderSpec: spec, Secrets: secret, LastKnownState: []byte("state")})
	note(err)
	_, err = client.GetMachineStatus(ctx, &cmiv1.GetMachineStatusRequest{MachineName: machine, ProviderSpec: spec, Secrets: secret, ProviderID: "vch://x/y"})
	note(err)
	_, err = client.ListMachines(ctx, &cmiv1.ListMachinesRequest{ProviderSpec: spec, Secrets: secret})
	note(err)
	_, err = client.ShutDownMachine(ctx, &cmiv1.ShutDownMachineRequest{MachineName: machine, ProviderSpec: spec, Secrets: secret})
	note(err)
	_, err = client.DeleteMachine(ctx, &cmiv1.DeleteMachineRequest{MachineName: machine, ProviderSpec: spec, Secrets: secret})
	note(err)
	_, err = client.GetVolumeIDs(ctx, &cmiv1.GetVolumeIDsRequest{PVSpecList: []byte(`[{"csi":7}]`)})
	note(err)
	return done, errs
}

func TestAPlantedSecretIsNowhere(t *testing.T) {
	t.Parallel()
	sim := simulated(t, vchsim.Options{NoForeign: true, Password: plantedPassword})
	own := sim.Secret()
	delete(own, v1alpha1.SecretUserData)
	env := []string{"GRPC_GO_LOG_SEVERITY_LEVEL=info", "GRPC_GO_LOG_VERBOSITY_LEVEL=99"}
	s := serving(t, socket(t), env, "--v=10", "--credentials-dir="+directory(t, own))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	client := s.machines()

	secret := plantedSecret(sim)
	withoutConnection := map[string][]byte{v1alpha1.SecretUserData: secret[v1alpha1.SecretUserData], "key": secret["key"]}
	wrong := plantedSecret(sim)
	wrong[v1alpha1.SecretPassword] = []byte(plantedWrong)
	broken := plantedSecret(sim)
	broken[v1alpha1.SecretPassword] = []byte(plantedWrong + "\n")
	nowhere := plantedSecret(sim)
	nowhere[v1alpha1.SecretHost] = []byte("127.0.0.1:1")
	inHost := plantedSecret(sim)
	inHost[v1alpha1.SecretHost] = []byte("https://user:" + url.QueryEscape(plantedWrong) + "@127.0.0.1/sdk")

	done := 0
	var errs []string
	both := func(machine string, spec []byte, data map[string][]byte) {
		n, found := allCalls(ctx, client, machine, spec, data)
		done, errs = done+n, append(errs, found...)
	}
	i := 0
	for name, spec := range plantedSpecs(t, sim) {
		i++
		before := done
		both(fmt.Sprint("m-", i), spec, secret)
		if name == "right" && done-before < 4 {
			t.Errorf("the right spec: only %d calls succeeded: %v", done-before, errs)
		}
	}
	right := plantedSpecs(t, sim)["right"]
	both("m-own", right, withoutConnection)
	for _, data := range []map[string][]byte{wrong, broken, nowhere, inHost, {"vsphereHost": []byte("x"), "other": []byte(plantedKey)}} {
		both("m-wrong", right, data)
	}
	sim.SetGuest(vchsim.GuestOptions{Fail: "cannot run: TOKEN=" + plantedToken + " " + plantedKey})
	both("m-fails", right, secret)
	_, err := client.CreateMachine(metadata.AppendToOutgoingContext(ctx, "mcm-driver-method", "other"),
		&cmiv1.CreateMachineRequest{MachineName: "m-x", ProviderSpec: right, Secrets: secret})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v", err)
	}
	errs = append(errs, err.Error())

	wantNone(t, "/metrics", s.metricsText())
	for _, text := range errs {
		wantNone(t, "an error", text)
	}
	for _, vm := range sim.VMs() {
		wantNone(t, "the name of a VM", vm.Name)
	}
	s.signal(syscall.SIGTERM)
	if err := s.awaitEnd(); err != nil {
		t.Errorf("the end: %v", err)
	}
	log := s.out.String()
	wantNone(t, "the log", log)
	wantLogged(t, log)
	if len(errs) < 50 {
		t.Errorf("only %d errors: this test looks at little", len(errs))
	}
	if t.Failed() {
		t.Logf("%d calls, %d errors, %d bytes of log", done, len(errs), len(log))
	}
}

// wantLogged checks that the log is so verbose that it could have shown secrets.
func wantLogged(t *testing.T, log string) {
	t.Helper()
	for _, want := range []string{
		"grpc.request.content", "vspherePassword", "redacted", "finished call", "started call", "Call failed", "Call done",
		`grpc.method="CreateMachine"`, `grpc.method="DeleteMachine"`, `grpc.method="GetVolumeIDs"`, "m-own", "m-fails",
		"[core]", // gRPC's own log
	} {
		if !strings.Contains(strings.ReplaceAll(log, `\"`, `"`), want) {
			t.Errorf("the log does not say %s: is it as verbose as this test needs?", want)
		}
	}
}
