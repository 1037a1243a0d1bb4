// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// defaultPath is the PATH of a process that neither spec nor image gives one; the tether looks commands up in it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// process is the one process of the VM.
type process struct {
	argv, env        []string
	dir, user, group string
	stopSignal       string // without SIG
}

// processOf is what the spec says, with the image's configuration where the spec
// leaves it open. Placeholders are expanded in what comes from the spec only: an
// image knows nothing of machines, and what it says is for its process as it is.
//
// The image's volumes make no mounts: their directories are on the root disk, and
// live as long as the machine.
func processOf(r Request, userData []byte) (process, error) {
	var defaults image.Config
	if r.Image != nil {
		defaults = r.Image.Config
	}
	env, err := environment(r, defaults)
	if err != nil {
		return process{}, err
	}
	p := process{env: env}
	if u := r.Spec.UserData; u != nil && u.Exec != nil && *u.Exec {
		var variable string
		if p.argv, variable, err = execUserData(userData); err != nil {
			return process{}, err
		}
		p.env = append(p.env, variable)
	} else if p.argv, err = commandLine(r, defaults); err != nil {
		return process{}, err
	}
	if p.dir, err = workingDir(r, defaults); err != nil {
		return process{}, err
	}
	if p.user, p.group, err = userAndGroup(r, defaults); err != nil {
		return process{}, err
	}
	p.stopSignal, err = stopSignal(r, defaults)
	return p, err
}

// commandLine follows Kubernetes: command stands for the image's entry point, and
// without its arguments; args stand for the image's arguments.
func commandLine(r Request, defaults image.Config) ([]string, error) {
	command, args := expandAll(r, r.Spec.Command), expandAll(r, r.Spec.Args)
	var ours []string // of the image
	switch {
	case len(command) > 0:
	case r.Image == nil:
		return nil, errdefs.New(errdefs.InvalidArgument, "command: required unless image or userData.exec is set")
	case len(args) > 0:
		ours, command = defaults.Entrypoint, defaults.Entrypoint
	default:
		command, args = defaults.Entrypoint, defaults.Cmd
		ours = slices.Concat(command, args)
	}
	for _, s := range ours {
		if reason := v1alpha1.BadListText(s); reason != "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "command: image %s: an element of its entry point or its arguments %s; set command in the provider spec", r.Spec.Image, reason)
		}
	}
	argv := slices.Concat(command, args)
	if len(argv) == 0 || argv[0] == "" {
		return nil, errdefs.New(errdefs.InvalidArgument, "command: image %s says nothing to run: it has neither entry point nor arguments; set command in the provider spec", r.Spec.Image)
	}
	return argv, nil
}

func expandAll(r Request, list []string) []string {
	out := slices.Clone(list)
	for i := range out {
		out[i] = v1alpha1.Expand(out[i], placeholders(r))
	}
	return out
}

// environment is the image's variables that the spec does not set, then the spec's, then PATH if it is missing.
func environment(r Request, defaults image.Config) ([]string, error) {
	given, err := specEnvironment(r)
	if err != nil {
		return nil, err
	}
	env, err := imageEnvironment(r, defaults.Env)
	if err != nil {
		return nil, err
	}
	env = append(env, given...)
	if !slices.ContainsFunc(env, func(s string) bool { return strings.HasPrefix(s, "PATH=") }) {
		env = append(env, "PATH="+defaultPath)
	}
	if size := len(strings.Join(env, "|")); r.Image != nil && size > v1alpha1.MaxGuestInfoBytes {
		return nil, errdefs.New(errdefs.InvalidArgument, "env: the variables of image %s and of the provider spec have %d bytes together, a guest can read %d at most", r.Spec.Image, size, v1alpha1.MaxGuestInfoBytes)
	}
	return env, nil
}

func specEnvironment(r Request) ([]string, error) {
	env := make([]string, 0, len(r.Spec.Env)+1)
	for i, v := range r.Spec.Env {
		if v.Name == userDataVariable {
			return nil, errdefs.New(errdefs.InvalidArgument, "env[%d].name: %s is what userData.exec passes userData in; choose another name", i, userDataVariable)
		}
		value := ""
		switch {
		case v.ValueFrom != nil:
			b, ok := r.Secret[v.ValueFrom.SecretKey]
			if !ok {
				return nil, errdefs.New(errdefs.InvalidArgument, "env[%d].valueFrom.secretKey: the Secret has no key %q", i, v.ValueFrom.SecretKey)
			}
			value = string(b)
		case v.Value != nil:
			value = *v.Value
		}
		value = v1alpha1.Expand(value, placeholders(r))
		if strings.ContainsAny(value, "|\x00") {
			// Not the value: it may come from the Secret.
			return nil, errdefs.New(errdefs.InvalidArgument, "env[%d] %s: its value contains '|' or NUL, which VIC's encoding cannot carry; pass it as base64", i, v.Name)
		}
		env = append(env, v.Name+"="+value)
	}
	return env, nil
}

// imageEnvironment returns the image's variables that the spec does not set. Of
// those that come twice the last one counts, at the place of the first.
func imageEnvironment(r Request, entries []string) ([]string, error) {
	at := map[string]int{}
	var env []string
	for _, entry := range entries {
		name, value, ok := strings.Cut(entry, "=")
		if slices.ContainsFunc(r.Spec.Env, func(v v1alpha1.EnvVar) bool { return v.Name == name }) {
			continue
		}
		// Never the value: people put credentials into images.
		reason := v1alpha1.BadListText(value)
		switch {
		case !ok:
			reason = "has no '=' and so no value"
		case name == "" || v1alpha1.BadListText(name) != "":
			reason = "has a name that VIC's encoding cannot carry"
		case name == userDataVariable:
			reason = "is what userData.exec passes userData in"
		case reason != "":
			reason = "has a value that " + reason
		}
		if reason != "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "env: image %s: its variable %.64q %s; set it in env of the provider spec, or mend the image", r.Spec.Image, name, reason)
		}
		if i, twice := at[name]; twice {
			env[i] = entry
			continue
		}
		at[name] = len(env)
		env = append(env, entry)
	}
	return env, nil
}

func workingDir(r Request, defaults image.Config) (string, error) {
	if r.Spec.WorkingDir != "" || defaults.WorkingDir == "" {
		return cmp.Or(r.Spec.WorkingDir, v1alpha1.DefaultWorkingDir), nil
	}
	if reason := v1alpha1.BadListText(defaults.WorkingDir); reason != "" {
		return "", errdefs.New(errdefs.InvalidArgument, "workingDir: that of image %s %s; set workingDir in the provider spec", r.Spec.Image, reason)
	}
	return path.Join("/", defaults.WorkingDir), nil
}

// userAndGroup: an image says user, uid, user:group or uid:gid. Its group is that
// of its user, so a user of the spec's takes the image's group away.
func userAndGroup(r Request, defaults image.Config) (user, group string, err error) {
	if r.Spec.User != "" {
		return r.Spec.User, r.Spec.Group, nil
	}
	user, group, _ = strings.Cut(defaults.User, ":")
	if strings.Contains(group, ":") || v1alpha1.BadListText(defaults.User) != "" {
		return "", "", errdefs.New(errdefs.InvalidArgument, "user: that of image %s, %.64q, is no user, uid, user:group or uid:gid; set user in the provider spec", r.Spec.Image, defaults.User)
	}
	return user, cmp.Or(r.Spec.Group, group), nil
}

func stopSignal(r Request, defaults image.Config) (string, error) {
	if s := r.Spec.Signal(); s != "" || defaults.StopSignal == "" {
		return cmp.Or(s, v1alpha1.DefaultStopSignal), nil
	}
	name, ok := signalName(defaults.StopSignal)
	if !ok {
		return "", errdefs.New(errdefs.InvalidArgument, "stopSignal: image %s asks for %.32q, which VIC's guest cannot send; set stopSignal in the provider spec to one of %s",
			r.Spec.Image, defaults.StopSignal, strings.Join(v1alpha1.StopSignals(), ", "))
	}
	return name, nil
}

// signalName returns the name, without SIG, of a signal that VIC's guest can send.
func signalName(s string) (name string, ok bool) {
	numbers := map[string]string{ // Linux on amd64
		"1": "HUP", "2": "INT", "3": "QUIT", "4": "ILL", "6": "ABRT", "8": "FPE", "9": "KILL",
		"10": "USR1", "11": "SEGV", "12": "USR2", "13": "PIPE", "14": "ALRM", "15": "TERM",
	}
	s = strings.ToUpper(strings.TrimSpace(s))
	name = cmp.Or(numbers[s], strings.TrimPrefix(s, "SIG"))
	return name, slices.Contains(v1alpha1.StopSignals(), name)
}
