/**
 * Libraries that ask for the environment or for more, in a process of their own:
 * the tests' grants stay as few as they are.
 *
 * @module
 */

import assert from "node:assert/strict";

/**
 * Runs a program that reads JSON and prints JSON.
 *
 * @param program Its path.
 * @param question What it reads.
 * @param grants What it may do.
 * @returns What it prints; the caller knows its type.
 */
export async function askChild<T>(
  program: string,
  question: unknown,
  grants: readonly string[],
): Promise<T> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", "--quiet", ...grants, program],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const asking = new Response(JSON.stringify(question)).body?.pipeTo(child.stdin);
  const [{ success, stdout }] = await Promise.all([child.output(), asking]);
  assert.ok(success, `${program} failed`);
  return JSON.parse(new TextDecoder().decode(stdout));
}
