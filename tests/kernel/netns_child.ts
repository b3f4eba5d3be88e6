/**
 * A program inside a network namespace, see host.ts: does what its standard
 * input says, one JSON request a line, one JSON answer a line.
 */

import { connectionsOf } from "../../lab/connections_of.ts";
import { WireError } from "../../src/base/errors.ts";
import { isLasting } from "../../src/base/lasting.ts";
import type { LocalFault } from "../../src/base/ports.ts";
import { type TcpDialer, tcpDialer } from "../../src/kernel/dialer.ts";
import { parseIpAddress } from "../../src/kernel/ip_address.ts";
import {
  captureLocalPath,
  lookUpRoute,
  probeRouteByConnect,
} from "../../src/kernel/local_fault.ts";
import { parseSource } from "../../src/kernel/source.ts";
import type { TcpWire } from "../../src/kernel/tcp_wire.ts";
import { until } from "../support/until.ts";
import { type DnsAnswer, serveDns } from "./dns_server.ts";
import { openSockets } from "./helpers.ts";

/** What the test asks for. */
export type Request =
  | { readonly do: "listen"; readonly hostname: string; readonly port: number }
  | { readonly do: "bind"; readonly hostname: string; readonly port: number }
  | {
    readonly do: "dial";
    readonly wire: string;
    readonly hostname: string;
    readonly port: number;
    readonly bindToDevice?: string;
    readonly source?: string;
  }
  | { readonly do: "route"; readonly hostname: string; readonly source: string | undefined }
  | { readonly do: "fault"; readonly wire: string }
  | { readonly do: "note-link"; readonly wire: string }
  | { readonly do: "probe"; readonly local: string; readonly remote: string }
  | {
    readonly do: "blackhole";
    readonly hostname: string;
    readonly port: number;
    readonly attempts: number;
  }
  | { readonly do: "dns"; readonly hostname: string; readonly answer: DnsAnswer }
  | { readonly do: "crowd"; readonly names: number }
  | {
    readonly do: "lookUp";
    readonly hostname: string;
    readonly port: number;
    /** When to give the attempt up, if not never. */
    readonly giveUpWhen?: "asked" | "looked-up";
  };

/** What it gets. */
export interface Answer {
  readonly device?: string | null;
  readonly fault?: LocalFault | null;
  /** The failure's code, or its class where it has none. */
  readonly error?: string;
  readonly message?: string;
  /** Whether no other attempt is worth while. */
  readonly lasting?: boolean;
  readonly leaked?: number;
  /** Of a look-up: what happened, in order. */
  readonly steps?: readonly string[];
}

const wires = new Map<string, TcpWire>();
const dialers = new Map<string, TcpDialer>();

/** The same dialer for the same server, device and source, as a sender has. */
function dialerFor(
  { hostname, port, bindToDevice, source }: Extract<Request, { readonly do: "dial" }>,
): TcpDialer {
  const key = JSON.stringify([hostname, port, bindToDevice, source]);
  const socket = bindToDevice === undefined ? {} : { bindToDevice };
  const from = source === undefined ? {} : { source };
  const dialer = dialers.get(key) ?? tcpDialer({ hostname, port, socket, ...from });
  dialers.set(key, dialer);
  return dialer;
}

/** Keeps every accepted connection open and reads nothing. */
async function serve(listener: Deno.TcpListener): Promise<void> {
  const accepted: Deno.TcpConn[] = [];
  for await (const conn of connectionsOf(listener)) accepted.push(conn);
}

/** Gives up attempts whose SYN nobody answers, and counts what they leave behind. */
async function giveUp(hostname: string, port: number, attempts: number): Promise<Answer> {
  const dialer = tcpDialer({ hostname, port });
  const before = openSockets();
  let duringMax = 0;
  let asExpected = 0;
  for (let attempt = 0; attempt < attempts; attempt++) {
    const controller = new AbortController();
    const reason = new Error("given up");
    const dialing = dialer.dial(controller.signal);
    // The attempt holds a descriptor as soon as its SYN is on its way.
    await until("attempt under way", () => openSockets() > before);
    duringMax = Math.max(duringMax, openSockets());
    controller.abort(reason);
    await dialing.catch((error) => asExpected += Number(error === reason));
    await until("socket given back", () => openSockets() === before);
  }
  if (asExpected !== attempts || duringMax <= before) return { error: "not given up as expected" };
  return { leaked: openSockets() - before };
}

const questions: string[] = [];

/** Dials and notes what comes when. */
async function lookUp(request: Request & { do: "lookUp" }): Promise<Answer> {
  const { hostname, port, giveUpWhen } = request;
  const controller = new AbortController();
  const steps: string[] = [];
  questions.length = 0;
  const dialing = tcpDialer({ hostname, port }).dial(controller.signal, () => {
    steps.push("looked up");
    if (giveUpWhen === "looked-up") controller.abort(new Error("given up"));
  });
  if (giveUpWhen === "asked") {
    await until("a question", () => questions.length > 0);
    controller.abort(new Error("given up"));
  }
  try {
    const wire = await dialing;
    steps.push(`connected to ${wire.remoteAddress}`);
    wire.abort();
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    steps.push(error.message);
  }
  return { steps };
}

/** Dials so many names at a time, and does something else that takes a thread of the runtime. */
async function crowd(names: number): Promise<Answer> {
  const steps: string[] = [];
  const attempts = Array.from({ length: names }, (_, index) => {
    const dialer = tcpDialer({ hostname: `name${index}.test`, port: 4000 });
    return dialer.dial(AbortSignal.timeout(60_000), () => {}).catch(() => steps.push("a name"));
  });
  await until("questions", () => questions.length >= 8);
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const other = Deno.connect({ hostname: "localhost", port: listener.addr.port });
  await Promise.race([
    other.then((conn) => {
      conn.close();
      steps.push("something else");
    }),
    ...attempts,
  ]);
  return { steps };
}

async function handle(request: Request): Promise<Answer> {
  switch (request.do) {
    case "listen":
      void serve(Deno.listen({ hostname: request.hostname, port: request.port }));
      return {};
    case "bind":
      Deno.listen({ hostname: request.hostname, port: request.port }).close();
      return {};
    case "dial": {
      const wire = await dialerFor(request).dial(AbortSignal.timeout(20_000));
      wires.set(request.wire, wire);
      return { device: wire.device ?? null };
    }
    case "route": {
      const from = request.source === undefined ? undefined : parseSource(request.source);
      const route = lookUpRoute(request.hostname, 4000, from);
      return route?.kind === "no-route"
        ? { message: route.words }
        : { device: route?.device ?? null };
    }
    case "fault":
      return { fault: wires.get(request.wire)?.localFault() ?? null };
    case "note-link":
      wires.get(request.wire)?.noteLink?.();
      return {};
    case "probe": {
      const endpoint = (text: string) => {
        const address = parseIpAddress(text);
        if (address === undefined) throw new TypeError(text);
        return { address, port: 9, scopeId: 0 };
      };
      const path = captureLocalPath({
        local: endpoint(request.local),
        remote: endpoint(request.remote),
        remoteHostname: request.remote,
        bindToDevice: undefined,
        mark: 0,
      });
      return { fault: probeRouteByConnect(path) ?? null };
    }
    case "blackhole":
      return await giveUp(request.hostname, request.port, request.attempts);
    case "dns":
      await serveDns(request.hostname, request.answer, (name) => questions.push(name));
      return {};
    case "crowd":
      return await crowd(request.names);
    case "lookUp":
      return await lookUp(request);
  }
}

if (import.meta.main) {
  let pending = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (pending + text).split("\n");
    pending = lines.pop() ?? "";
    for (const line of lines) {
      const answer = await handle(JSON.parse(line)).catch((error: Error): Answer => ({
        error: error instanceof WireError ? error.code : error.name,
        message: error.message,
        lasting: isLasting(error),
      }));
      Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify(answer) + "\n"));
    }
  }
  Deno.exit();
}
