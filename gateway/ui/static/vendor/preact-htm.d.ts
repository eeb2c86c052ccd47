// What the page uses of Preact and htm, for the type checker.

type Setter<State> = (next: State | ((before: State) => State)) => void;

export function html(parts: TemplateStringsArray, ...values: unknown[]): any;
export function render(tree: unknown, place: Element | null): void;
export function useState(first: null): [any, (next: any) => void];
export function useState<State>(first: State | (() => State)): [State, Setter<State>];
export function useEffect(effect: () => unknown, deps?: readonly unknown[]): void;
export function useMemo<Value>(make: () => Value, deps: readonly unknown[]): Value;
export function useRef(first: null): { current: any };
export function useRef<Value>(first: Value): { current: Value };
