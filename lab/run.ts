/**
 * Programs that do one thing and end.
 *
 * @module
 */

/**
 * Runs a program to its end.
 *
 * @param command The program.
 * @param args Its arguments.
 * @param input What it reads from its standard input.
 * @returns What it printed.
 * @throws {Error} It failed; with what it said, and what it was told.
 */
export async function run(
  command: string,
  args: readonly string[],
  input = "",
): Promise<string> {
  const child = new Deno.Command(command, {
    args: [...args],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  // A program that ends early says why on its standard error.
  await writer.write(new TextEncoder().encode(input)).catch(() => {});
  await writer.close().catch(() => {});
  const { success, stdout, stderr } = await child.output();
  if (!success) {
    const reason = new TextDecoder().decode(stderr).trim().replaceAll("\n", "; ");
    throw new Error(`${command} ${args.join(" ")}: ${reason} (${input.trim()})`);
  }
  return new TextDecoder().decode(stdout);
}
