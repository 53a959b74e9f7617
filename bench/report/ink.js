// The plots' colours beside those of the contenders. In the page each is a variable of its style sheet.
export const INK = '#1b2430';
export const SOFT = '#55606e';
export const GRID = '#e3e7ec';
export const PAPER = '#ffffff';
export const PALE = '#a9c9e8';
