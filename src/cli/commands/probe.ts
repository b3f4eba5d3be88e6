/** `sendq probe`: what the kernel says about the path to a server. */

import { Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import { messageOf, WireError } from "../../base/errors.ts";
import { DELIVERY_OPTIONS } from "../../base/option_table.ts";
import {
  duration,
  type OptionTable,
  type ResolvedOptions,
  resolveOptions,
} from "../../base/options.ts";
import type { Dialer } from "../../base/ports.ts";
import { formatRemote, type Remote } from "../../base/remote.ts";
import { formatProxy, type ProxyServer } from "../../base/via.ts";
import { rest } from "../../base/waits.ts";
import { Connection } from "../../delivery/connection.ts";
import { describeVerdict, type Verdict } from "../../delivery/liveness.ts";
import { tcpDialer } from "../../kernel/dialer.ts";
import { lookUpRoute, type RouteDescription } from "../../kernel/local_fault.ts";
import { parseSource, type Source } from "../../kernel/source.ts";
import type { TcpWire } from "../../kernel/tcp_wire.ts";
import type { UnixWire } from "../../kernel/unix_wire.ts";
import { checkPermissions } from "../../permissions/permissions.ts";
import { viaOf, wayNeeds } from "../../sender/way.ts";
import type { TlsWire } from "../../tls/tls_wire.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import {
  addTlsOptions,
  asUsageError,
  connectionFilesOf,
  tlsOptionsOf,
} from "../arguments/options.ts";
import { addViaOptions, viaOptionsOf, wayOf } from "../arguments/proxy.ts";
import { parseDuration, parseServer } from "../arguments/values.ts";
import { EXIT_CODE_HELP, ExitCode, UsageError } from "../terminal/exit_code.ts";
import { formatBytes, formatDuration, printable } from "../terminal/figures.ts";
import { printLine } from "../terminal/output.ts";
import type { Stdio } from "../terminal/stdio.ts";

/** The kernel asks an idle server for a sign of life this often: keepalive, no payload. */
const KEEPALIVE_MS = 1000;
/** Two of these unanswered are a dead path. */
const LIMITS = {
  holdMs: 0,
  onPeerFin: "keep-sending",
  stallTimeoutMs: 3000,
  peerStallTimeoutMs: Infinity,
  keepAlive: { timeoutMs: 2500, probes: 2 },
} as const;
const LOOK_MS = 1000;

const HELP = `
Connects, prints every second what the kernel says, and closes. No payload byte
is sent; what answers is the server's kernel. Whether its program reads, nobody
can tell without sending: sendq status shows that for a queue that is being
sent.

Examples:
  sendq probe tcp://192.0.2.7:4000
  sendq probe tcp://legacy:4000 --seconds 60 --json
  sendq probe tls://logs.example:6514 --tls-ca ca.pem --seconds 0.1
  sendq probe unix:/run/app.sock --seconds 0.1
  sendq probe tcp://legacy:4000 --via socks5://proxy:1080

Permissions, on Debian, x86_64:
  deno run --allow-net=192.0.2.7:4000 \\
    --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \\
    src/cli/main.ts probe tcp://192.0.2.7:4000
TLS needs --allow-read for the files of --tls-… beside, a Unix socket
--allow-net=unix:PATH and PATH in --allow-read and --allow-write. With --via it
is the proxy that --allow-net has to name, and not the server; --source needs
its address, too.

${EXIT_CODE_HELP}
`;

const PROBE_OPTIONS = {
  connectTimeoutMs: duration("--connect-timeout <time>", "for the connection", {
    min: 1,
    default: 5000,
  }),
  source: DELIVERY_OPTIONS.source,
} as const satisfies OptionTable;

interface ProbeOptions extends ResolvedOptions<typeof PROBE_OPTIONS> {
  readonly seconds: number;
  readonly libc?: string;
  readonly json?: boolean;
}

interface Look {
  /** Since the connection was made. */
  readonly atMs: number;
  readonly rttMs: number;
  readonly windowBytes: number | undefined;
  readonly sendQueueBytes: number;
  readonly retransmittedSegments: number;
  /** Since anything came from the server's kernel. */
  readonly lastSignMs: number;
  readonly unansweredKeepalives: number;
  readonly verdict: Verdict["kind"];
}

export function probeCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("probe")
    .summary("see what the kernel says about the path to a server")
    .description("See what the kernel says about the path to a server, without sending a byte.")
    .argument("<remote>", "the server: tcp://HOST:PORT, tls://HOST:PORT or unix:PATH", parseServer);
  const adder = new OptionAdder(command)
    .value("--seconds <count>", "how long to look", parseSeconds, [5, "5"])
    .table(PROBE_OPTIONS, resolveOptions(PROBE_OPTIONS, {}))
    .flag("--libc <path>", "the C library, where it is none of the usual paths (NixOS, Guix)")
    .flag("--json", "print one object at the end");
  addTlsOptions(adder);
  addViaOptions(adder);
  return command
    .addHelpText("after", HELP)
    .action(async (remote: Remote, options: ProbeOptions) =>
      finish(await probe(remote, options, io))
    );
}

function parseSeconds(text: string): number {
  return parseDuration(/^[\d.]+$/.test(text) ? `${text}s` : text) / 1000;
}

async function probe(remote: Remote, options: ProbeOptions, io: Stdio): Promise<ExitCode> {
  const { connectTimeoutMs, libc } = options;
  checkPermissions({
    ...wayNeeds(remote, wayOf(options)),
    kernel: true,
    libc,
    files: connectionFilesOf(options),
  });
  const proxy = viaOf(remote, viaOptionsOf(options));
  const dialer = await dialerTo(remote, proxy, options);
  const { source } = wayOf(options);
  const report = new Report({ remote, proxy, source, json: options.json ?? false }, io);
  const startedMs = systemClock.nowMs();
  let wire: ProbedWire;
  let lookedUp = false;
  let connected = false;
  const timeUp = new AbortController();
  const cancel = systemClock.setTimer(
    connectTimeoutMs,
    () => timeUp.abort(new DOMException("The connection took too long.", "TimeoutError")),
  );
  try {
    wire = await dialer.dial(timeUp.signal, () => lookedUp = true, () => {
      // A handshake is ended by the dialer itself.
      cancel();
      connected = true;
    });
  } catch (error) {
    await report.failed(error, { timeoutMs: connectTimeoutMs, lookedUp, connected });
    return ExitCode.FAILED;
  } finally {
    cancel();
  }
  const connectedMs = systemClock.nowMs();
  await report.connected(wire, connectedMs - startedMs);
  const verdict = await watch(wire, connectedMs, 1000 * options.seconds, report);
  await report.end(verdict);
  return verdict.kind === "healthy" ? ExitCode.DONE : ExitCode.FAILED;
}

type ProbedWire = TcpWire | TlsWire | UnixWire;

interface ProbeDialer extends Dialer {
  dial(...how: Parameters<Dialer["dial"]>): Promise<ProbedWire>;
}

async function dialerTo(
  remote: Remote,
  proxy: ProxyServer | undefined,
  options: ProbeOptions,
): Promise<ProbeDialer> {
  const { libc } = options;
  const { source } = wayOf(options);
  const keepAlive = { idleMs: KEEPALIVE_MS, intervalMs: KEEPALIVE_MS, count: 3 };
  try {
    const given = libc === undefined ? {} : { libc };
    const { tls } = tlsOptionsOf(options);
    if (remote.scheme !== "tls" && tls !== undefined) {
      throw new UsageError("--tls-… options need a remote that begins with tls://");
    }
    if (remote.scheme === "unix") {
      const { unixDialer } = await import("../../kernel/unix_dialer.ts");
      return unixDialer({ ...remote, ...given, clock: systemClock });
    }
    const from = source === undefined ? {} : { source };
    const tcp = { ...remote, socket: { keepAlive }, ...given, ...from };
    const inner = proxy === undefined
      ? tcpDialer(tcp)
      : (await import("../../proxy/dialer.ts")).proxyDialer({
        ...{ proxy, remote, tcp, clock: systemClock },
      });
    if (remote.scheme !== "tls") return inner;
    const { tlsDialer } = await import("../../tls/dialer.ts");
    return await tlsDialer({ tcp, inner, tls: tls ?? {}, clock: systemClock, tell: () => {} });
  } catch (error) {
    throw asUsageError(error);
  }
}

/** Looks every second. Returns the last verdict. */
async function watch(
  wire: ProbedWire,
  connectedMs: number,
  durationMs: number,
  report: Report,
): Promise<Verdict> {
  const connection = new Connection({
    wire,
    clock: systemClock,
    limits: LIMITS,
    afterId: 0,
    lastId: () => 0,
    onEnd: () => {},
    onWritten: () => {},
    onReceived: (chunk) => report.receivedBytes += chunk.length,
  });
  try {
    for (let dueMs = 0;;) {
      dueMs = Math.min(dueMs + LOOK_MS, durationMs);
      const waitMs = dueMs - (systemClock.nowMs() - connectedMs);
      await rest(systemClock, Math.max(0, waitMs));
      let { verdict, ended, peerClosed, pollInMs } = connection.poll();
      // Dead, and its errno still on the way to whoever asks first.
      while (!ended && !peerClosed && wire.sample().hangup) {
        await rest(systemClock, pollInMs);
        ({ verdict, ended, peerClosed, pollInMs } = connection.poll());
      }
      const fault = ended ? undefined : wire.localFault();
      if (fault !== undefined) verdict = { kind: "local-fault", fault, silenceMs: 0 };
      const sample = wire.sample();
      await report.look({
        atMs: Math.round(systemClock.nowMs() - connectedMs),
        rttMs: sample.rttUs / 1000,
        windowBytes: sample.sendWindowBytes,
        sendQueueBytes: sample.sendQueueBytes,
        retransmittedSegments: sample.totalRetransmits,
        lastSignMs: sample.lastAckMs,
        unansweredKeepalives: sample.probes,
        verdict: verdict.kind,
      });
      if (ended || dueMs >= durationMs || !report.isRead) return verdict;
    }
  } finally {
    connection.dispose();
  }
}

/** How far an attempt to connect has come. */
interface Attempt {
  readonly timeoutMs: number;
  readonly lookedUp: boolean;
  /** To the server, or to the proxy; a handshake may not be over. */
  readonly connected: boolean;
}

/** Prints as it goes, or all at the end. */
class Report {
  /** What the server said by itself. */
  receivedBytes = 0;
  /** Whether somebody still reads. */
  isRead = true;
  readonly #remote: Remote;
  readonly #proxy: ProxyServer | undefined;
  readonly #source: Source | undefined;
  readonly #json: boolean;
  readonly #io: Stdio;
  readonly #looks: Look[] = [];
  #facts: Readonly<Record<string, unknown>> = {};

  constructor(
    { remote, proxy, source, json }: {
      readonly remote: Remote;
      readonly proxy: ProxyServer | undefined;
      readonly source: string | undefined;
      readonly json: boolean;
    },
    io: Stdio,
  ) {
    this.#io = io;
    this.#remote = remote;
    this.#proxy = proxy;
    this.#source = source === undefined ? undefined : parseSource(source);
    this.#json = json;
  }

  async failed(error: unknown, { timeoutMs, lookedUp, connected }: Attempt): Promise<void> {
    if (!(error instanceof WireError || isTimeout(error))) throw error;
    const code = error instanceof WireError ? error.code : lookedUp ? "ETIMEDOUT" : "EAI_AGAIN";
    const remote = this.#remote;
    if (remote.scheme === "unix") {
      this.#facts = { code };
      return await this.#finish("unreachable", `cannot connect: ${messageOf(error)}`);
    }
    const { hostname, port } = this.#proxy ?? remote;
    const route = lookUpRoute(hostname, port, this.#source);
    const proxy = this.#proxy && `the proxy ${formatProxy(this.#proxy)}`;
    // What has gone wrong at a proxy or behind it, or in a handshake, is said in words already.
    const known = error instanceof WireError && (proxy !== undefined || connected)
      ? undefined
      : connectWords(code, timeoutMs);
    const words = `cannot connect: ${
      error instanceof WireError
        ? known ?? error.message
        : `${proxy === undefined ? "" : `${proxy}: `}${known ?? lookUpWords(hostname, timeoutMs)}`
    }`;
    this.#facts = { route, code };
    await this.#say("route", route && routeWords(route));
    await this.#finish("unreachable", words);
  }

  async connected(wire: ProbedWire, tookMs: number): Promise<void> {
    const { localAddress, remoteAddress } = wire;
    const connectMs = Math.round(10 * tookMs) / 10;
    if ("peer" in wire) {
      const { peer } = wire;
      this.#facts = { remoteAddress, connectMs, ...(peer === undefined ? {} : { peer }) };
      await this.#say("connected", `to ${remoteAddress} in ${tookMs.toFixed(1)}ms`);
      const who = peer && `process ${peer.processId} of user ${peer.userId} listens there`;
      return await this.#say("server", who);
    }
    const [local, { hostname, port }] = [endOf(localAddress), endOf(remoteAddress)];
    const route = lookUpRoute(hostname, port, local);
    const tls = "chain" in wire ? tlsFactsOf(wire) : undefined;
    this.#facts = {
      route,
      ...(this.#proxy === undefined ? {} : { via: formatProxy(this.#proxy) }),
      localAddress,
      remoteAddress,
      connectMs,
      ...(tls === undefined ? {} : { tls }),
    };
    await this.#say(
      "connected",
      `to ${remoteAddress} from ${localAddress} in ${tookMs.toFixed(1)}ms`,
    );
    await this.#say(
      "via",
      this.#proxy && `${formatProxy(this.#proxy)}: what follows is of the way to the proxy`,
    );
    await this.#say("route", route && routeWords(route));
    if (tls !== undefined) await this.#sayTls(tls);
  }

  async #sayTls({ version, cipherSuite, alpn, accepted, chain }: TlsFacts): Promise<void> {
    const protocol = alpn === undefined ? "" : `, ALPN ${alpn}`;
    await this.#say("tls", `${version}, ${cipherSuite}${protocol}`);
    for (
      const [index, { subject, issuer, names, expiresAtMs, daysLeft, sha256 }] of chain.entries()
    ) {
      const whose = printable(`${subject}${names === undefined ? "" : ` (${names})`}`);
      await this.#say(
        index === 0 ? "server" : "issuer",
        `${whose}, issued by ${printable(issuer)}, until ` +
          `${new Date(expiresAtMs).toISOString().slice(0, 10)} (${daysLeft} days left), ` +
          `SHA-256 ${sha256}`,
      );
    }
    await this.#say(
      "accepted",
      accepted
        ? version === "TLSv1.3"
          ? "yes: a session ticket, or something else, came after the handshake"
          : "yes: the server ended the handshake"
        : "not known: nothing came after the handshake, so a refusal may still come",
    );
  }

  async look(look: Look): Promise<void> {
    this.#looks.push(look);
    if (this.#remote.scheme === "unix") {
      return await this.#say(`${(look.atMs / 1000).toFixed(1)}s`, look.verdict);
    }
    const window = look.windowBytes === undefined
      ? ""
      : `window ${formatBytes(look.windowBytes)}, `;
    await this.#say(
      `${(look.atMs / 1000).toFixed(1)}s`,
      `RTT ${look.rttMs.toFixed(1)}ms, ${window}Send-Q ${formatBytes(look.sendQueueBytes)}, ` +
        `${look.retransmittedSegments} retransmitted, ` +
        `last sign ${formatDuration(look.lastSignMs)} ago: ${look.verdict}`,
    );
  }

  async end(verdict: Verdict): Promise<void> {
    const words = verdict.kind === "healthy"
      ? this.#remote.scheme === "unix"
        ? "healthy: a program listens there; it was asked nothing"
        : healthyWords(this.#proxy !== undefined, this.#remote.scheme === "tls")
      : verdict.kind === "peer-closed"
      ? "peer closed: the server ended the connection by itself"
      : describeVerdict(verdict);
    const said = this.receivedBytes === 0
      ? ""
      : `; unasked, it sent ${formatBytes(this.receivedBytes)}`;
    await this.#finish(verdict.kind, words + said);
  }

  async #finish(verdict: string, words: string): Promise<void> {
    if (!this.#json) return await this.#say("verdict", words);
    const { receivedBytes } = this;
    await printLine(
      this.#io,
      JSON.stringify({
        remote: formatRemote(this.#remote),
        ...this.#facts,
        looks: this.#looks,
        receivedBytes,
        verdict,
        words,
      }),
    );
  }

  async #say(name: string, words: string | undefined): Promise<void> {
    if (!this.#json && words !== undefined) {
      this.isRead = await printLine(this.#io, `${name.padEnd(10)} ${words}`);
    }
  }
}

/** Who was asked for what: TLS is agreed upon with the server itself, also through a proxy. */
function healthyWords(viaProxy: boolean, overTls: boolean): string {
  const [whose, who] = viaProxy ? ["proxy", "the server behind it"] : ["server", "its program"];
  const asked = overTls ? "agreed on TLS, and was asked nothing more" : "was asked nothing";
  return `healthy: the ${whose}'s kernel answers; ${who} ${asked}`;
}

type TlsFacts = ReturnType<typeof tlsFactsOf>;

function tlsFactsOf({ tls, alpn, accepted, chain }: TlsWire) {
  return {
    version: tls.version,
    cipherSuite: tls.cipherSuite,
    alpn,
    accepted,
    chain: chain.map(({ subject, issuer, subjectAltName, validTo, fingerprint256 }) => {
      const expiresAtMs = Date.parse(validTo);
      return {
        subject: subject.replaceAll("\n", ", "),
        issuer: issuer.replaceAll("\n", ", "),
        names: subjectAltName,
        expiresAtMs,
        daysLeft: Math.floor((expiresAtMs - systemClock.wallMs()) / 86_400_000),
        sha256: fingerprint256,
      };
    }),
  };
}

/** `address` as a wire has it: an IPv6 address in brackets, and a port. */
function endOf(address: string): { readonly hostname: string; readonly port: number } {
  const colon = address.lastIndexOf(":");
  return { hostname: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}

function routeWords(route: RouteDescription): string {
  if (route.kind === "no-route") return route.words;
  const carrier = route.carrier === undefined
    ? ""
    : route.carrier
    ? ", carrier"
    : ", no carrier: no cable, or the other end is off";
  const gateway = route.gateway === undefined ? "" : `, through ${route.gateway}`;
  return `${route.device}${gateway}, ${route.up ? "up" : "down"}${carrier}`;
}

/** What a failed attempt means, where its name says something. */
function connectWords(code: string, timeoutMs: number): string | undefined {
  switch (code) {
    case "ECONNREFUSED":
      return "the host answers, and nothing listens on this port (ECONNREFUSED)";
    case "ETIMEDOUT":
      return `no answer within ${formatDuration(timeoutMs)}: ` +
        "the host is off, the path is cut, or a firewall drops the attempt";
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return `the network says that there is no way there (${code})`;
    default:
      return undefined;
  }
}

/** The attempt took all its time, and the name was not known by then. */
function lookUpWords(hostname: string, timeoutMs: number): string {
  return `${hostname} was not looked up within ${formatDuration(timeoutMs)}: ` +
    "a nameserver of /etc/resolv.conf does not answer (EAI_AGAIN)";
}

function isTimeout(error: unknown): boolean {
  return error instanceof DOMException && error.name === "TimeoutError";
}
