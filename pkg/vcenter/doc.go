// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package vcenter is the way to a vCenter: sessions, limits, waiting and errors.
//
// A Pool holds one session per endpoint, user, credential and trust setting.
// Everybody who asks with an equal Config shares it, and a Config that differs
// in any of these gets another one: that is how a changed Secret takes effect
// at the next call. Ask the Pool at the begin of every operation and do not
// keep the Client: asking is free while the session is warm.
//
// # Sessions
//
// Logging in is done once however many callers wait for it, and belongs to none
// of them: a caller that gives up does not take the login with it. A session is
// kept alive while it is in use; when nobody used it for six times
// Options.KeepAlive (an hour by default) it is logged out. When vCenter says
// NotAuthenticated, the session is renewed once for all its users and each call
// is repeated once, which is safe because a call refused for that reason did
// nothing. Pool.Close logs out everything.
//
// vCenter locks an account after five wrong passwords within three minutes. So
// that fifty workers with an outdated Secret do not lock it, refused credentials
// are not tried again for a minute; a changed Secret is tried at once.
//
// # Calls
//
// A call passes these layers, from the outside in: renewal of the session;
// Options.MaxConcurrent (long polls excepted); Options.CallTimeout (for a long
// poll: on top of the wait it asked for); Options.Middleware;
// Options.Observer; the transport. So Middleware sees every attempt, logins
// included, and Observer only what was really sent. Requests that are not SOAP, of
// files above all, go through Client.Do, where renewal and Observer apply.
//
// The API version spoken is the older one of vCenter's and govmomi's, so that
// old vCenters understand us and new ones answer what we understand.
//
// # Trust
//
// A Thumbprint decides alone: exactly the certificate with that thumbprint is
// accepted, expired or not. Otherwise Insecure accepts every certificate, and
// otherwise the certificate must be signed by CABundle or, without one, by the
// system's roots.
//
// # Errors
//
// Convert is the only place that gives vSphere's faults and network errors a
// kind of errdefs; its table is in fault.go. Errors of this package never
// contain a password.
//
// The package knows nothing of VCHs or container VMs; pkg/vch, pkg/containervm,
// pkg/spi/vsphere and pkg/cli build on it.
package vcenter
