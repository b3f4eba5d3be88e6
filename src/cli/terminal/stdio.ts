/**
 * Where a command reads and prints.
 *
 * @module
 */

/**
 * Standard input, output and error: `Deno` itself has them, and a test hands in
 * its own.
 */
export interface Stdio {
  /** What the command is given. */
  readonly stdin: StandardInput;
  /** What the command is asked for. */
  readonly stdout: StandardOutput;
  /** What else it has to say. */
  readonly stderr: StandardOutput;
}

/** Standard input. */
export interface StandardInput {
  /** Reads some bytes; `null` at the end. */
  read(buffer: Uint8Array): Promise<number | null>;
  /** Whether a person types it. */
  isTerminal(): boolean;
}

/** Standard output or standard error. */
export interface StandardOutput {
  /** Writes some of the bytes, once there is room; returns how many. */
  write(bytes: Uint8Array): Promise<number>;
  /** The same at once. */
  writeSync(bytes: Uint8Array): number;
  /** Whether a person reads it. */
  isTerminal(): boolean;
}
