/** The way to connect that a sender has: the user's, or one of its own, which ends with it. */

import type { Clock, Dialer, Logger } from "../base/ports.ts";
import type { HostRemote, Remote } from "../base/remote.ts";
import { formatProxy, type ProxyServer } from "../base/via.ts";
import type { SupervisorLimits } from "../delivery/supervisor.ts";
import { tcpDialer, type TcpDialerOptions } from "../kernel/dialer.ts";
import type { Tenure } from "../queue/tenure.ts";
import type { SenderOptions } from "./options.ts";
import { viaOf } from "./way.ts";

/** TCP_USER_TIMEOUT stands this far above every limit of our own: a back-stop must not race. */
const USER_TIMEOUT_MARGIN_MS = 30_000;

interface Parts {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Gets what has to end with the sender. */
  readonly untilClosed: DisposableStack;
}

/**
 * Makes the dialer. Who listens begins to: no sooner than this sender may send, for a server that
 * connects to one that stands by would wait there for nothing, and not be where it is waited for.
 */
export type OpenDialer = () => Dialer;

/** The dialer of a sender, checked before anything else is opened; `limits` are its options. */
export async function dialerFor(
  remote: Remote,
  options: SenderOptions,
  limits: SupervisorLimits,
  parts: Parts,
): Promise<OpenDialer> {
  const { dialer, returnAfterMs } = options;
  if (dialer !== undefined) return () => dialer;
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
  if (preferred.listen) return await listening(preferred, options, limits, parts);
  const first = await to(preferred);
  if (standbys.length === 0) return () => first;
  // Here and below: who does not need it loads none of it.
  const { failoverDialer } = await import("../failover/failover_dialer.ts");
  const several = failoverDialer({
    dialers: [first, ...await Promise.all(standbys.map(to))],
    clock,
    tell: (words) => logger.info(words),
    ...(returnAfterMs === undefined ? {} : { returnAfterMs }),
  });
  return () => several;
}

/**
 * Makes the dialer of a sender that may send, and only as long as it may, and with it the sender.
 *
 * @param tenure The right to send, which is given back where that fails.
 * @param open What makes the dialer.
 * @param sender What makes the sender.
 */
export async function openUnder<T>(
  tenure: Tenure,
  open: OpenDialer,
  sender: (dialer: Dialer) => T,
): Promise<T> {
  try {
    if (tenure.validForMs() === Infinity) return sender(open());
    const { tenuredDialer } = await import("./tenured_dialer.ts");
    return sender(tenuredDialer(open(), tenure));
  } catch (error) {
    await tenure.release();
    throw error;
  }
}

function tcpOptionsOf(
  { socket = {}, libc, source }: SenderOptions,
  limits: SupervisorLimits,
): Pick<TcpDialerOptions, "socket" | "socketDefaults" | "libc" | "source"> {
  const userTimeoutMs = limits.peerStallTimeoutMs + limits.stallTimeoutMs + USER_TIMEOUT_MARGIN_MS;
  return {
    socket,
    socketDefaults: { userTimeoutMs: Math.min(userTimeoutMs, 2 ** 31 - 1) },
    ...(libc === undefined ? {} : { libc }),
    ...(source === undefined ? {} : { source }),
  };
}

async function listening(
  remote: HostRemote,
  options: SenderOptions,
  limits: SupervisorLimits,
  { untilClosed }: Parts,
): Promise<OpenDialer> {
  const { readyToListen } = await import("../kernel/listen_dialer.ts");
  const { secondConnection } = options;
  const second = secondConnection === undefined ? {} : { secondConnection };
  const listen = readyToListen({ ...remote, ...tcpOptionsOf(options, limits), ...second });
  return () => untilClosed.use(listen());
}

async function dialerTo(
  remote: Remote,
  proxy: ProxyServer | undefined,
  options: SenderOptions,
  limits: SupervisorLimits,
  { clock, logger }: Parts,
): Promise<Dialer> {
  const { socket = {}, libc, libssl, tls = {}, signal } = options;
  if (remote.scheme === "unix") {
    const { unixDialer } = await import("../kernel/unix_dialer.ts");
    return unixDialer({ ...remote, socket, clock, ...(libc === undefined ? {} : { libc }) });
  }
  const how = { ...remote, ...tcpOptionsOf(options, limits) };
  const inner = proxy === undefined
    ? undefined
    : (await import("../proxy/dialer.ts")).proxyDialer({ proxy, remote, tcp: how, clock });
  if (remote.scheme !== "tls") return inner ?? tcpDialer(how);
  const { tlsDialer } = await import("../tls/dialer.ts");
  const tell = (words: string) => logger.info(words);
  // Else a function that hangs would be taken for name servers that do.
  const optionsTimeoutMs = limits.lookUpTimeoutMs / 2;
  const common = {
    ...{ tcp: how, tls, optionsTimeoutMs, signal, clock, tell },
    ...(inner === undefined ? {} : { inner }),
  };
  if (!limits.reads) return await tlsDialer(common);
  const { opensslEngines } = await import("../tls/openssl/engine.ts");
  return await tlsDialer({ ...common, readingEngineOf: opensslEngines(libssl) });
}
