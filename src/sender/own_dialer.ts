/**
 * The way to connect that a sender has: the user's, or one of its own, which ends with it.
 *
 * @module
 */

import type { Clock, Dialer, Logger } from "../base/ports.ts";
import type { Remote } from "../base/remote.ts";
import { formatProxy, type ProxyServer } from "../base/via.ts";
import type { SupervisorLimits } from "../delivery/supervisor.ts";
import { tcpDialer } from "../kernel/dialer.ts";
import { listenDialer } from "../kernel/listen_dialer.ts";
import type { SenderOptions } from "./options.ts";
import { viaOf } from "./way.ts";

/** TCP_USER_TIMEOUT stands this far above every limit of our own: a back-stop must not race. */
const USER_TIMEOUT_MARGIN_MS = 30_000;

/** What a dialer works with, beside options. */
interface Parts {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Gets what has to end with the sender. */
  readonly untilClosed: DisposableStack;
}

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
  parts: Parts,
): Promise<Dialer> {
  const { dialer, returnAfterMs } = options;
  if (dialer !== undefined) return dialer;
  const { clock, logger } = parts;
  const proxy = viaOf(remote, options);
  if (proxy !== undefined) {
    logger.info(
      `connections go through the proxy ${formatProxy(proxy)}: what is acknowledged has come as ` +
        `far as there`,
    );
  }
  const to = (one: Remote) => dialerTo(one, proxy, options, limits, parts);
  const { standbys = [], ...preferred } = remote;
  if (standbys.length === 0) return await to(preferred);
  // Who has one server loads none of it.
  const { failoverDialer } = await import("../failover/failover_dialer.ts");
  return failoverDialer({
    dialers: await Promise.all([preferred, ...standbys].map(to)),
    clock,
    soonEndedFails: limits.onPeerFin !== "confirm",
    tell: (words) => logger.info(words),
    ...(returnAfterMs === undefined ? {} : { returnAfterMs }),
  });
}

async function dialerTo(
  remote: Remote,
  proxy: ProxyServer | undefined,
  { socket = {}, libc, libssl, secondConnection, source, tls = {}, signal }: SenderOptions,
  limits: SupervisorLimits,
  { clock, logger, untilClosed }: Parts,
): Promise<Dialer> {
  if (remote.scheme === "unix") {
    // Who connects over a network loads none of it.
    const { unixDialer } = await import("../kernel/unix_dialer.ts");
    return unixDialer({ ...remote, socket, clock, ...(libc === undefined ? {} : { libc }) });
  }
  const userTimeoutMs = limits.peerStallTimeoutMs + limits.stallTimeoutMs + USER_TIMEOUT_MARGIN_MS;
  const socketDefaults = { userTimeoutMs: Math.min(userTimeoutMs, 2 ** 31 - 1) };
  const how = {
    ...remote,
    socket,
    socketDefaults,
    ...(libc === undefined ? {} : { libc }),
    ...(source === undefined ? {} : { source }),
  };
  if (remote.listen) {
    const second = secondConnection === undefined ? {} : { secondConnection };
    return untilClosed.use(listenDialer({ ...how, ...second }));
  }
  // Who has no proxy loads none of it, either.
  const inner = proxy === undefined
    ? undefined
    : (await import("../proxy/dialer.ts")).proxyDialer({ proxy, remote, tcp: how, clock });
  if (remote.scheme !== "tls") return inner ?? tcpDialer(how);
  // Who speaks plain TCP loads none of it.
  const { tlsDialer } = await import("../tls/dialer.ts");
  const tell = (words: string) => logger.info(words);
  // Else a function that hangs would be taken for name servers that do.
  const optionsTimeoutMs = limits.lookUpTimeoutMs / 2;
  const common = {
    ...{ tcp: how, tls, optionsTimeoutMs, signal, clock, tell },
    ...(inner === undefined ? {} : { inner }),
  };
  if (!limits.reads) return await tlsDialer(common);
  // Who does not ask what was read loads nothing of OpenSSL.
  const { opensslEngines } = await import("../tls/openssl/engine.ts");
  return await tlsDialer({ ...common, readingEngineOf: opensslEngines(libssl) });
}
