/**
 * The way to connect that a sender has: the user's, or one of its own, which ends with it.
 *
 * @module
 */

import type { Dialer } from "../base/ports.ts";
import type { Remote } from "../base/remote.ts";
import type { SupervisorLimits } from "../delivery/supervisor.ts";
import { tcpDialer } from "../kernel/dialer.ts";
import { listenDialer } from "../kernel/listen_dialer.ts";
import type { SenderOptions } from "./options.ts";

/** TCP_USER_TIMEOUT stands this far above every limit of our own: a back-stop must not race. */
const USER_TIMEOUT_MARGIN_MS = 30_000;

/**
 * The dialer of a sender, checked before anything else is opened.
 *
 * @param remote Where to.
 * @param options Those of the sender.
 * @param limits The same, resolved.
 * @param untilClosed Gets what has to end with the sender.
 */
export function dialerFor(
  remote: Remote,
  { dialer, socket = {}, libc, secondConnection }: SenderOptions,
  limits: SupervisorLimits,
  untilClosed: DisposableStack,
): Dialer {
  if (dialer !== undefined) return dialer;
  const userTimeoutMs = limits.peerStallTimeoutMs + limits.stallTimeoutMs + USER_TIMEOUT_MARGIN_MS;
  const socketDefaults = { userTimeoutMs: Math.min(userTimeoutMs, 2 ** 31 - 1) };
  const how = { ...remote, socket, socketDefaults, ...(libc === undefined ? {} : { libc }) };
  if (!remote.listen) return tcpDialer(how);
  const second = secondConnection === undefined ? {} : { secondConnection };
  return untilClosed.use(listenDialer({ ...how, ...second }));
}
