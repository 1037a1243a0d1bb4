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
// Options.KeepAlive (an hour by default) it is logged out. A session gives way to a
// newer one of the same user with the same vCenter, but another password or other trust,
// since its Secret was changed; and when its own credentials are refused. It is logged out then
// when no request has used it for a minute and nobody waits for a task in it. Other waiting
// is no use: who only waits meets Unavailable. When vCenter says
// NotAuthenticated, the session is renewed once for all its users and each call
// is repeated once, which is safe because a call refused for that reason did
// nothing. Pool.Close logs out everything.
//
// vCenter locks an account after five wrong passwords within three minutes. So
// that fifty workers with an outdated Secret do not lock it, refused credentials
// are not tried again for a minute; a changed Secret is tried at once. A call that
// began before the change ends with Unavailable, not with what the old Secret is blamed for.
//
// # Calls
//
// A call passes these layers, from the outside in: renewal of the session;
// repetition; the circuit breaker and the limit of calls under way (see Load); Options.CallTimeout
// (for a long poll: on top of the wait it asked for); a span of Options.Tracer;
// Options.Middleware; Options.Observer; the transport. So Tracer and Middleware see every attempt, logins
// included, and Observer only what was really sent. Requests that are not SOAP, of
// files above all, go through Client.Do, where renewal, circuit breaker and Observer apply.
//
// The API version spoken is the older one of vCenter's and govmomi's, so that
// old vCenters understand us and new ones answer what we understand.
//
// # Load
//
// All sessions with one vCenter share a limit of calls under way, between
// Options.MinConcurrent and MaxConcurrent. It is halved, once for all calls that are
// under way, when vCenter shows that it is overloaded: by HTTP's 503, 504 and 429, calls
// that are not answered in time, the faults Timedout and TooManyConcurrent… (of
// tasks too), by many of TaskInProgress or of broken connections, or by answers
// that take much longer than usual while many are under way. It rises by one each
// second in which calls are answered. Who waits gets a turn in the order of asking.
//
// When Options.BreakerFailures calls in a row had no answer, the circuit breaker
// opens: calls to that vCenter fail at once with Unavailable, those that wait
// included. After two seconds one call is let through; its answer closes the
// breaker, and each failure doubles the time, up to Options.BreakerMaxWait. Whatever
// vCenter itself says is an answer, refused credentials too. A long poll is never
// that one call, but goes along with it, and a logout always goes through.
//
// Calls that change nothing are repeated when there was no answer, or one that passes
// (503, HostCommunication): up to Options.MaxAttempts times, after a pause of which
// half is random, or as long as vCenter asks for; never beyond the caller's
// deadline, nor Options.CallTimeout after the call was made; and no more of them
// than Options.RetryBudget allows. The table in retry.go has the methods.
// All other calls may have taken effect: their callers look.
//
// Client.Heavy limits what is under way on one datastore. Pool.Stats tells the
// state of all that. vCenters share nothing: a dead one does not hold up another.
//
// # Waiting
//
// Client.Task, Client.Until and Client.Watch share one property collector and one
// WaitForUpdatesEx for each session, which rests in vCenter while anybody waits. All
// tasks stand in one list view with one filter; those that are begun together go into
// it with one call. A collector that is lost, with its session or with an answer, is
// replaced, and who waits does not notice, unless that fails several times in a row. An answer
// is handed to those who watch before those who wait for a task: so the effects of a
// task that has ended are known to all.
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
