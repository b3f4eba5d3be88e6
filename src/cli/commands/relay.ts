/** `sendq relay`: many local clients, one queue, one server. */

import { normalize } from "node:path/posix";
import { Command } from "commander";
import { systemClock } from "../../base/clock.ts";
import { loggerOf } from "../../base/logger.ts";
import { RELAY_OPTIONS } from "../../base/option_table.ts";
import type { ResolvedOptions } from "../../base/options.ts";
import { formatRemote, type Remote } from "../../base/remote.ts";
import { rest } from "../../base/waits.ts";
import { listenAt, listenFailure } from "../../kernel/listen.ts";
import { isAnswered } from "../../kernel/unix_socket.ts";
import { isLoopback } from "../../kernel/ip_address.ts";
import type { RelayListener } from "../../relay/options.ts";
import { Relay } from "../../relay/relay.ts";
import {
  addDeliveryOptions,
  addOversizeOption,
  addQueueOption,
  addQueueOptions,
  checkDeliveryOptions,
  type DeliveryCommandOptions,
  framingHelp,
  type FramingOptions,
  splitterFor,
} from "../arguments/options.ts";
import { OptionAdder } from "../arguments/option_adder.ts";
import { wayOf } from "../arguments/proxy.ts";
import { parseListen, parseMode, parseRemoteArgument } from "../arguments/values.ts";
import type { Listen } from "../../permissions/permissions.ts";
import type { Intake, Planned, SessionPlan } from "../session/plan.ts";
import { deliveryNeeds, runPlanned } from "../session/session.ts";
import { listenError } from "../session/status_page.ts";
import { EXIT_CODE_HELP, type ExitCode, UsageError } from "../terminal/exit_code.ts";
import { givenOf, inFlags } from "../terminal/flags.ts";
import type { Stdio } from "../terminal/stdio.ts";

/** A socket that nobody listens on for so long, up to twice of it, was left there. */
const LEFT_MS = 100;

const HELP = `
Clients connect, and what they send is cut into packets, stored, and delivered
in order: that of each client, in one line for all. A full queue holds the
clients back. A client that dies inside a packet loses that packet and no other;
with lines, a last one without its newline is such a packet. When a client
closes its side, it is closed in turn once everything it sent is on disk; with
--replies, when it has taken no reply for --reply-timeout. Every other end is a
reset ("connection reset by peer"): something could not be stored or was not
whole, sendq is stopped, or killed. A Unix socket knows no reset, so that there
every end looks the same. Nothing marks the end of a chunk: with --input chunks
there is one client at a time.

Whoever reaches the address can send: there is no password. Listen on loopback
or on a Unix socket with a mode of its own, unless the network is trusted.

SIGTERM, SIGINT or SIGHUP stop reading and deliver for --deliver-timeout more.

Examples:
  For a program that connects to port 4001 instead of its server:
    sendq relay --listen tcp://127.0.0.1:4001 --to tcp://legacy:4000 \\
      -q outbox.db

  Syslog from clients that count octets or write lines, to a server that counts:
    sendq relay --listen tcp://127.0.0.1:1514 --to tcp://logs:601 \\
      -q outbox.db -i syslog

  On a Unix socket, and the server's answers to everyone:
    sendq relay --listen unix:/run/app/out.sock --to tcp://legacy:4000 \\
      -q outbox.db -i length32 --replies all

Permissions, for the first example on Debian, x86_64:
  deno run --allow-net=127.0.0.1:4001,legacy:4000 \\
    --allow-read=outbox.db,outbox.db.lock \\
    --allow-write=outbox.db,outbox.db.lock \\
    --allow-ffi=/lib/x86_64-linux-gnu/libc.so.6 \\
    src/cli/main.ts relay --listen tcp://127.0.0.1:4001 \\
    --to tcp://legacy:4000 ...
A Unix socket needs --allow-net=unix:PATH, and PATH in --allow-read and
--allow-write. As a systemd service with Type=notify it needs
--allow-env=NOTIFY_SOCKET,WATCHDOG_USEC.

${framingHelp()}

${EXIT_CODE_HELP}
`;

export interface RelayCommandOptions
  extends DeliveryCommandOptions, FramingOptions, Partial<ResolvedOptions<typeof RELAY_OPTIONS>> {
  readonly listen: readonly Listen[];
  readonly to: Remote;
  readonly socketMode?: number;
}

export function relayCommand(finish: (code: ExitCode) => void, io: Stdio): Command {
  const command = new Command("relay")
    .summary("take packets from many local clients, and deliver them")
    .description("Store and forward for programs that cannot be changed.");
  const listens: Listen[] = [];
  const options = new OptionAdder(command)
    .group("Clients")
    .required(
      "-l, --listen <address>",
      "tcp://HOST:PORT or unix:PATH; may be given several times",
      // Kept here: those of a route file are replaced and not added to.
      (text: string): readonly Listen[] => {
        listens.push(parseListen(text));
        return listens;
      },
    )
    .required(
      "-t, --to <remote>",
      "the server: tcp://HOST:PORT, tls://HOST:PORT, unix:PATH, several with commas, or " +
        "listen://HOST:PORT",
      parseRemoteArgument,
    )
    .framing("-i, --input <framing>", "packets of clients", "lines")
    .framing("-o, --output <framing>", "packets on the wire (default: as of clients)")
    .table(RELAY_OPTIONS)
    .value(
      "--socket-mode <mode>",
      "who may connect to a Unix socket: 660 (default: as the umask has it)",
      parseMode,
    );
  addOversizeOption(options);
  addQueueOption(options);
  addQueueOptions(options);
  addDeliveryOptions(options);
  return command
    .addHelpText("after", HELP)
    .action(async (options: RelayCommandOptions) =>
      finish(await runPlanned(planRelay(options, io)))
    );
}

/**
 * What `relay` does with its options, and what it needs for it.
 *
 * @throws {OptionError | UsageError} They contradict each other.
 */
export function planRelay(options: RelayCommandOptions, io: Stdio): Planned {
  checkDeliveryOptions(options);
  splitterFor(options); // Says what is wrong before anything is opened.
  if (
    options.socketMode !== undefined && options.listen.every(({ transport }) => transport === "tcp")
  ) {
    throw new UsageError("--socket-mode needs --listen unix:PATH");
  }
  const { standbys = [] } = options.to;
  // What a proxy calls by that address is nearer to it than to us.
  const remotes = wayOf(options).via === undefined ? [options.to, ...standbys] : [];
  const back = remotes.find((remote) => options.listen.some((listen) => leadsTo(remote, listen)));
  if (back !== undefined) {
    const own = formatRemote(back);
    throw new UsageError(`${own} is where the relay listens: it would send to itself`);
  }
  let listeners: readonly OpenListener[] = [];
  const plan: SessionPlan = {
    remote: options.to,
    options,
    io,
    acquire: async () => {
      listeners = await listenOn(options.listen, options.socketMode);
      return { [Symbol.dispose]: () => closeAll(listeners) };
    },
    openIntake: (sender, log) => {
      const { input, output, oversize, maxPacketBytes } = options;
      const relay = new Relay({
        ...givenOf(RELAY_OPTIONS, options),
        ...{ input, maxPacketBytes },
        ...(output === undefined ? {} : { output }),
        ...(oversize === undefined ? {} : { oversize }),
        sender,
        listeners: listeners.map(({ listener }) => listener),
        // Its words name the library's options.
        logger: loggerOf((level, words) => log[level](inFlags(words))),
      });
      for (const { address, open } of listeners) {
        log.info(`listening on ${address}`);
        if (open) {
          log.warn(`${address} is no loopback address: whoever reaches it can send packets`);
        }
      }
      return new RelayIntake(relay, options.deliverTimeoutMs);
    },
    // The relay passes it on.
    handleReceived: () => () => Promise.resolve(),
  };
  return { plan, needs: deliveryNeeds(options.to, options, options.listen) };
}

/** Whether who connects to a remote finds whoever listens there. */
function leadsTo(remote: Remote, listen: Listen): boolean {
  if (remote.scheme === "unix" || listen.transport === "unix") {
    return remote.scheme === "unix" && listen.transport === "unix" &&
      normalize(remote.path) === normalize(listen.path);
  }
  if (remote.listen || remote.port !== listen.port) return false;
  // Whom no address of IPv6 leads to.
  if (listen.hostname === "0.0.0.0" && remote.hostname.includes(":")) return false;
  const hosts = [remote.hostname, listen.hostname];
  const isAny = (host: string) => host === "0.0.0.0" || host === "::";
  if (hosts.some(isAny)) return hosts.every((host) => isAny(host) || isLoopback(host));
  return hosts[0] === hosts[1] ||
    (hosts.includes("localhost") &&
      hosts.every((host) => ["localhost", "127.0.0.1", "::1"].includes(host)));
}

interface OpenListener {
  readonly listener: RelayListener;
  readonly address: string;
  readonly open: boolean;
}

function closeAll(listeners: readonly OpenListener[]): void {
  for (const { listener } of listeners) listener.close();
}

async function listenOn(
  listens: readonly Listen[],
  socketMode: number | undefined,
): Promise<OpenListener[]> {
  const listeners: OpenListener[] = [];
  try {
    for (const listen of listens) {
      if (listen.transport === "unix") {
        const listener = await listenUnix(listen.path, socketMode);
        listeners.push({ listener, address: `unix:${listen.path}`, open: false });
      } else {
        const listener = listenAt(formatRemote(listen), () => Deno.listen(listen));
        const open = !isLoopback(listener.addr.hostname);
        listeners.push({ listener, address: formatRemote(listener.addr), open });
      }
    }
  } catch (error) {
    closeAll(listeners);
    throw listenError(error, "--listen");
  }
  return listeners;
}

class RelayIntake implements Intake {
  readonly origin = "clients";
  /** The relay has said so for each client. */
  readonly unfinishedBytes = 0;
  readonly #relay: Relay;
  readonly #storeTimeoutMs: number;

  constructor(relay: Relay, storeTimeoutMs: number) {
    this.#relay = relay;
    this.#storeTimeoutMs = storeTimeoutMs;
  }

  get unstoredPackets(): number {
    return this.#relay.stats().unstoredPackets;
  }

  async run(): Promise<void> {
    await new Promise<never>(() => {});
  }

  async stop(): Promise<void> {
    await this.#relay.stop({ storeTimeoutMs: this.#storeTimeoutMs });
  }

  async settled(): Promise<void> {}
}

/**
 * Listens on a path. A socket that nobody listens on any more, left there by a
 * process that was killed, is replaced; anything else there is left alone.
 *
 * @param path Where. The directory's permissions say who may connect, and the socket's own.
 * @param mode The socket's own, for example `0o660`; as the umask has it unless given. It
 *   is set right after the socket is made, by a call of its own: where not even that moment
 *   may be open, the directory has to be closed.
 * @throws {Deno.errors.AddrInUse} Somebody listens there, or it is no socket.
 * @throws {ListenError} It cannot listen there: its directory does not exist, for example.
 */
export async function listenUnix(path: string, mode?: number): Promise<Deno.UnixListener> {
  const listen = () => {
    const listener = Deno.listen({ transport: "unix", path });
    if (mode !== undefined) Deno.chmodSync(path, mode);
    return listener;
  };
  try {
    for (;;) {
      try {
        return listen();
      } catch (error) {
        if (!(error instanceof Deno.errors.AddrInUse)) throw error;
        const found = socketAt(path);
        if (found === "none") continue;
        if (found === "other" || await isAnswered(path)) throw error;
        // It may be one that begins to listen, or that others who start find as well: whose own
        // lies there after a pause is not to lose it.
        await rest(systemClock, LEFT_MS * (1 + Math.random()));
        if (!await isAnswered(path) && socketAt(path) === found) removeSocket(path);
      }
    }
  } catch (error) {
    throw listenFailure(error, `unix:${path}`);
  }
}

/** Which socket lies at a path, by what no later one shares: numbers of files are used again. */
function socketAt(path: string): string {
  try {
    const { isSocket, dev, ino, ctime } = Deno.lstatSync(path);
    return isSocket ? `${dev}:${ino}:${ctime?.getTime()}` : "other";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "none";
    throw error;
  }
}

function removeSocket(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
