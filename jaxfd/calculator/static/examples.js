// Worked examples and questions: formulas and numbers that the panels are filled with.

export const EXAMPLES = [
  { name: "w² at 2", about: "Forward, h = 0.0001: 4.0001", state: { e: "w^2", "x.w": "2", m: "forward", o: "1", h: "1e-4" } },
  { name: "T(x) = 100/(x+1)", about: "At 5, h = 0.001", state: { e: "100/(x+1)", "x.x": "5", m: "forward", o: "1", h: "0.001" } },
  { name: "with noise", about: "sin(x) with noise of 0.0001", state: { e: "sin(x)", "x.x": "1", m: "central", o: "2", h: "0.01", n: "1e-4" } },
  { name: "a kink", about: "|x| at its corner", state: { e: "|x|", "x.x": "0", m: "central", o: "2", h: "0.1" } },
  { name: "near an edge", about: "log(x) close to where it ends", state: { e: "log(x)", "x.x": "0.01", m: "central", o: "2", h: "0.009" } },
  { name: "float32", about: "exp(x) with seven digits", state: { e: "exp(x)", "x.x": "1", m: "forward", o: "1", h: "1e-5", p: "32" } },
];

export const QUESTIONS = [
  {
    ask: "Is it the same as automatic differentiation?",
    answer: "No: automatic differentiation applies the chain rule to the formula and is right up to rounding, a difference knows values alone and has an error that depends on its step. In return a difference works for whatever can be evaluated, a simulator or a measurement, where there is no formula to differentiate.",
    show: { tab: "formula", e: "tanh(w*x+b)", "x.w": "2", "x.x": "0.3", "x.b": "0.5", m: "forward", o: "1", h: "1e-3" },
  },
  {
    ask: "Is a smaller h better?",
    answer: "Down to a point: the curve bends less between closer points, but the two values agree in more and more digits, and those are lost in the subtraction. Below that point rounding, divided by a tiny h, is most of what is seen.",
    show: { tab: "formula", e: "exp(x)", "x.x": "1", m: "forward", o: "1", h: "0.1" },
  },
  {
    ask: "Forward, backward or central?",
    answer: "Forward and backward cost one evaluation a variable beside f(x), and halving h halves their error; central costs two, and halving h leaves a quarter. Take central, unless evaluations are dear or one side of the point is out of bounds.",
    show: { tab: "formula", e: "sin(x)", "x.x": "1", m: "central", o: "2", h: "0.01", t: "2" },
  },
  {
    ask: "What does noise do?",
    answer: "Noise of size s in the values is an error of about s/h in the gradient, so that a small step drowns in it. A longer step is the cure, and the adaptive method measures the noise and finds that step.",
    show: { tab: "formula", e: "sin(x)", "x.x": "1", m: "central", o: "2", h: "1e-4", n: "1e-3" },
  },
  {
    ask: "What about several variables?",
    answer: "Each is moved alone while the others stand still, which gives one partial derivative each; together they are the gradient, a vector. Forward differences of n variables cost n + 1 evaluations, central ones 2n.",
    show: { tab: "formula", e: "x^2*y + sin(y)*z", "x.x": "1", "x.y": "2", "x.z": "0.5", m: "central", o: "2", h: "1e-3" },
  },
  {
    ask: "Why is a network not trained this way?",
    answer: "Every parameter needs evaluations of its own, a million parameters a million of them, while backpropagation has all derivatives for the price of a few. For one neuron both are quick, and lead downhill alike.",
    show: { tab: "neuron", x1: "1", x2: "-0.5", w1: "0.4", w2: "0.3", b: "0", t: "0.9", a: "tanh", h: "0.001", r: "0.1" },
  },
  {
    ask: "Can it fail?",
    answer: "Yes: at a kink the two sides disagree and the answer depends on the method, across a jump it grows without end as h shrinks, and beside the edge of its domain the function is not real on one side. The number looks the same each time, which is why the page says more than the number.",
    show: { tab: "formula", e: "|x|", "x.x": "0", m: "central", o: "2", h: "0.1" },
  },
];
