// Settings for MathJax: no menu and no speech, which would fetch more files (the MathML that screen readers use stays).
// A formula that is wider than the page scrolls, and can then be reached with the keyboard. How wide a formula may be
// is known when the page has been laid out, which is after the window's own message that its size has changed.
const letWideOnesBeFocused = new ResizeObserver(changes => {
  for (const { target: formula } of changes) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
});
function watchFormulas() {
  document.querySelectorAll('mjx-container[display="true"]').forEach(formula => letWideOnesBeFocused.observe(formula));
}
Object.assign(window.MathJax.options, { enableMenu: false });  // MyST has written which elements hold formulas
window.MathJax.startup = { pageReady: () => MathJax.startup.defaultPageReady().then(watchFormulas) };
