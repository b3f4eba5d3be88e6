/**
 * A child of netns_child.ts in namespaces of its own, and what it takes to make them.
 */

import assert from "node:assert/strict";
import type { LocalFault } from "../../src/base/ports.ts";
import { grantedLibc, noChildren } from "./helpers.ts";
import type { Answer, Request } from "./netns_child.ts";

/**
 * Why no network namespaces can be made and filled; `undefined`: they can.
 *
 * @param tools Programs that the test needs beside `ip` and `unshare`.
 */
export async function namespaceObstacle(...tools: string[]): Promise<string | undefined> {
  const children = noChildren();
  if (children !== undefined) return children;
  for (const command of ["ip", "unshare", ...tools]) {
    if (Deno.permissions.querySync({ name: "run", command }).state !== "granted") {
      return `needs --allow-run=${command}`;
    }
  }
  const probe = `sendq-probe-${Deno.pid}`;
  try {
    await run("ip", "netns", "add", probe);
    await run("ip", "netns", "del", probe);
    await run("unshare", "--net", "--mount", "true");
    for (const tool of tools) await run(tool, "--version");
    return undefined;
  } catch (error) {
    return `no network namespaces here: ${error instanceof Error ? error.message : error}`
      .replaceAll("\n", " ");
  }
}

/** Runs a command to its end; throws what it said if it failed. */
export async function run(command: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args, stdin: "null" }).output();
  if (!success) {
    throw new Error(`${command} ${args.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
  }
}

/**
 * Arguments of `unshare` for a network and a mount namespace, in front of a command.
 *
 * @param setup Lines of shell that fill the namespaces before it starts.
 */
export function isolation(setup: readonly string[]): string[] {
  const script = ["set -e", "ip link set lo up", ...setup, 'exec "$@"'].join("\n");
  return ["--net", "--mount", "sh", "-c", script, "sh"];
}

/** A child inside namespaces: takes requests, gives answers. */
export class Host implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #output: ReadableStreamDefaultReader<string>;
  #pending = "";

  private constructor(command: string, args: readonly string[], net: string) {
    const script = new URL("./netns_child.ts", import.meta.url).href;
    const flags = ["--no-prompt", "--no-lock", net, `--allow-ffi=${grantedLibc()}`];
    this.#child = new Deno.Command(command, {
      args: [...args, Deno.execPath(), "run", ...flags, script],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#output = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Inside a network namespace that exists already. */
  static in(namespace: string): Host {
    return new Host("ip", ["netns", "exec", namespace], "--allow-net");
  }

  /**
   * In a network and a mount namespace of its own, which end with it.
   *
   * @param setup Lines of shell that fill the namespaces before the child starts.
   * @param net The permission flag.
   */
  static isolated(setup: readonly string[], net = "--allow-net"): Host {
    return new Host("unshare", isolation(setup), net);
  }

  async ask(request: Request): Promise<Answer> {
    await this.#input.write(new TextEncoder().encode(JSON.stringify(request) + "\n"));
    while (!this.#pending.includes("\n")) {
      const { value, done } = await this.#output.read();
      if (done) throw new Error(`the child ended during ${JSON.stringify(request)}`);
      this.#pending += value;
    }
    const end = this.#pending.indexOf("\n");
    const answer: Answer = JSON.parse(this.#pending.slice(0, end));
    this.#pending = this.#pending.slice(end + 1);
    return answer;
  }

  async fault(wire: string): Promise<LocalFault | null | undefined> {
    const { fault, error } = await this.ask({ do: "fault", wire });
    assert.equal(error, undefined);
    return fault;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {}); // It may have ended by itself.
    await this.#output.cancel();
    await this.#child.status;
  }
}
