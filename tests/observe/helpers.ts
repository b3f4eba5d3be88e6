import {
  serveStatus,
  type StatusServer,
  type StatusServerOptions,
} from "../../src/observe/http.ts";
import type { SenderOptions } from "../../src/sender/options.ts";
import { Sender } from "../../src/sender/sender.ts";
import { ManualClock } from "../support/manual_clock.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import { until } from "../support/until.ts";

/** A sender with its status server, and a server to send to that can be stopped. */
export class StatusBench implements AsyncDisposable {
  readonly clock: ManualClock;
  readonly server: ScriptedServer;
  readonly sender: Sender;
  readonly status: StatusServer;

  private constructor(
    clock: ManualClock,
    server: ScriptedServer,
    sender: Sender,
    status: StatusServer,
  ) {
    this.clock = clock;
    this.server = server;
    this.sender = sender;
    this.status = status;
  }

  static async open(
    options: StatusServerOptions = {},
    senderOptions: Partial<SenderOptions> = {},
  ): Promise<StatusBench> {
    const clock = new ManualClock();
    const server = new ScriptedServer().start();
    const directory = await Deno.makeTempDir();
    const sender = await Sender.open({
      queue: `${directory}/outbox.db`,
      remote: server.remote,
      ...senderOptions,
    });
    try {
      return new StatusBench(
        clock,
        server,
        sender,
        serveStatus(sender, { port: 0, clock, ...options }),
      );
    } catch (error) {
      await tidy(sender, server);
      throw error;
    }
  }

  /** Stops the server; resolves once it refuses connections, which Deno's close does not wait for. */
  async stopServer(): Promise<void> {
    this.server.stop();
    const { hostname, port } = new URL(this.server.remote.replace("tcp:", "http:"));
    await until("connections are refused", async () => {
      try {
        (await Deno.connect({ hostname, port: Number(port) })).close();
        return false;
      } catch (error) {
        return error instanceof Deno.errors.ConnectionRefused;
      }
    });
  }

  /** The answer to a GET. */
  async get(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    return await answerOf(fetch(new URL(path, this.status.url), { headers, redirect: "manual" }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.status.close();
    await tidy(this.sender, this.server);
  }
}

async function tidy(sender: Sender, server: ScriptedServer): Promise<void> {
  await sender.close({ deliverTimeoutMs: 0 }).catch((error) => {
    // Of this it is closed already, and says so to everybody.
    if (sender.queueFailure === undefined) throw error;
  });
  await server[Symbol.asyncDispose]();
  await Deno.remove(sender.queue.path.replace(/[^/]*$/, ""), { recursive: true });
}

/** A response, read to its end. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
}

/** Reads a response to its end. */
export async function answerOf(fetched: Promise<Response>): Promise<Answer> {
  const response = await fetched;
  return { status: response.status, headers: response.headers, text: await response.text() };
}

/** Asks over a socket of its own: `fetch` does not let anybody choose `Host`. */
export async function getAs(url: string, host: string): Promise<number> {
  const { hostname, port } = new URL(url);
  using conn = await Deno.connect({ hostname, port: Number(port) });
  const request = `GET /status HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
  await conn.write(new TextEncoder().encode(request));
  let text = "";
  for await (const part of conn.readable.pipeThrough(new TextDecoderStream())) text += part;
  return Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]);
}

/** One server-sent event. */
export interface ServerSentEvent {
  readonly name: string;
  // deno-lint-ignore no-explicit-any -- whatever JSON says; the tests look into it
  readonly data: any;
}

/** Reads a stream of server-sent events. */
export async function* eventsOf(response: Response): AsyncGenerator<ServerSentEvent> {
  if (response.body === null) throw new Error("no body");
  let rest = "";
  for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
    rest += part;
    for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
      const [, name = "", data = ""] = /^event: (.*)\ndata: (.*)$/.exec(rest.slice(0, end)) ?? [];
      rest = rest.slice(end + 2);
      yield { name, data: JSON.parse(data) };
    }
  }
}
