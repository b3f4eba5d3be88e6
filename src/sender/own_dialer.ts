/**
 * The way to connect that a sender has: the user's, or one of its own, which ends with it.
 *
 * @module
 */

import type { Clock, Dialer, Logger } from "../base/ports.ts";
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
 * @param parts Its clock and log; `untilClosed` gets what has to end with the sender.
 */
export async function dialerFor(
  remote: Remote,
  options: SenderOptions,
  limits: SupervisorLimits,
  { clock, logger, untilClosed }: {
    readonly clock: Clock;
    readonly logger: Logger;
    readonly untilClosed: DisposableStack;
  },
): Promise<Dialer> {
  const { dialer, socket = {}, libc, secondConnection, tls = {} } = options;
  if (dialer !== undefined) return dialer;
  const { standbys = [], ...preferred } = remote;
  if (standbys.length > 0) {
    // Who has one server loads none of it.
    const { failoverDialer } = await import("../failover/failover_dialer.ts");
    const parts = { clock, logger, untilClosed };
    const servers = [preferred, ...standbys];
    return failoverDialer({
      dialers: await Promise.all(servers.map((one) => dialerFor(one, options, limits, parts))),
      clock,
      soonEndedFails: limits.onPeerFin !== "confirm",
      tell: (words) => logger.info(words),
      ...(options.returnAfterMs === undefined ? {} : { returnAfterMs: options.returnAfterMs }),
    });
  }
  if (preferred.scheme === "unix") {
    // Who connects over a network loads none of it.
    const { unixDialer } = await import("../kernel/unix_dialer.ts");
    return unixDialer({ ...preferred, socket, clock, ...(libc === undefined ? {} : { libc }) });
  }
  const userTimeoutMs = limits.peerStallTimeoutMs + limits.stallTimeoutMs + USER_TIMEOUT_MARGIN_MS;
  const socketDefaults = { userTimeoutMs: Math.min(userTimeoutMs, 2 ** 31 - 1) };
  const how = { ...preferred, socket, socketDefaults, ...(libc === undefined ? {} : { libc }) };
  if (preferred.scheme === "tls") {
    // Who speaks plain TCP loads none of it.
    const { tlsDialer } = await import("../tls/dialer.ts");
    return await tlsDialer({ tcp: how, tls, clock, tell: (words) => logger.info(words) });
  }
  if (!preferred.listen) return tcpDialer(how);
  const second = secondConnection === undefined ? {} : { secondConnection };
  return untilClosed.use(listenDialer({ ...how, ...second }));
}
