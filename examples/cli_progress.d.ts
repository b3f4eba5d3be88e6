/**
 * The part of cli-progress that the demo uses. Its own types bring those of
 * Node, which would replace Deno's in the whole project.
 *
 * @module
 */

/** How a bar looks. */
export interface Preset {
  readonly barCompleteChar: string;
  readonly barIncompleteChar: string;
  readonly format: string;
}

/** Ready-made looks. */
export const Presets: { readonly shades_classic: Preset };

/** See the options in cli-progress's README. */
export interface BarOptions {
  readonly format: string;
  readonly hideCursor: boolean;
  readonly noTTYOutput: boolean;
  readonly notTTYSchedule: number;
  readonly stream: unknown;
}

/** One progress bar. */
export class SingleBar {
  constructor(options: BarOptions, preset: Preset);
  start(total: number, startValue: number, payload: Record<string, unknown>): void;
  update(value: number, payload: Record<string, unknown>): void;
  stop(): void;
}
