// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import "strings"

// Redacted stands in place of a secret text in a redacted configuration.
const Redacted = "REDACTED"

// RedactExecutor returns a copy without what people should not see: the values
// of environment entries and the host key are replaced. The argument stays as it
// is; unchanged parts are shared.
func RedactExecutor(config *ExecutorConfig) *ExecutorConfig {
	out := *config
	out.Key = redactBytes(config.Key)
	out.Sessions = redactSessions(config.Sessions)
	out.Execs = redactSessions(config.Execs)
	return &out
}

// RedactVCH is RedactExecutor for a VCH; its token and private keys are replaced too.
func RedactVCH(config *VCHConfig) *VCHConfig {
	out := *config
	out.ExecutorConfig = *RedactExecutor(&config.ExecutorConfig)
	if out.Token != "" {
		out.Token = Redacted
	}
	out.HostCertificate = redactCertificate(config.HostCertificate)
	out.NetworkCertificates = redactCertificates(config.NetworkCertificates)
	out.HostCertificates = redactCertificates(config.HostCertificates)
	return &out
}

func redactSessions(sessions map[string]*SessionConfig) map[string]*SessionConfig {
	return mapValues(sessions, func(session *SessionConfig) *SessionConfig {
		if session == nil {
			return nil
		}
		out := *session
		out.Cmd.Env = make([]string, len(session.Cmd.Env))
		for i, entry := range session.Cmd.Env {
			out.Cmd.Env[i] = Redacted
			if name, _, ok := strings.Cut(entry, "="); ok {
				out.Cmd.Env[i] = name + "=" + Redacted
			}
		}
		return &out
	})
}

func redactCertificates(certificates map[string]*RawCertificate) map[string]*RawCertificate {
	return mapValues(certificates, redactCertificate)
}

func redactCertificate(certificate *RawCertificate) *RawCertificate {
	if certificate == nil {
		return nil
	}
	return &RawCertificate{Key: redactBytes(certificate.Key), Cert: certificate.Cert}
}

func redactBytes(b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	return []byte(Redacted)
}

func mapValues[V any](in map[string]V, change func(V) V) map[string]V {
	if in == nil {
		return nil
	}
	out := make(map[string]V, len(in))
	for name, value := range in {
		out[name] = change(value)
	}
	return out
}
