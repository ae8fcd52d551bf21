// Settings for MathJax: no menu and no speech, which would fetch more files (the MathML that screen readers use stays).
// A formula that is wider than the page scrolls, and can then be reached with the keyboard.
function letWideFormulasBeFocused() {
  for (const formula of document.querySelectorAll('mjx-container[display="true"]')) {
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
    else formula.removeAttribute("tabindex");
  }
}
Object.assign(window.MathJax.options, { enableMenu: false });  // MyST has written which elements hold formulas
window.MathJax.startup = { pageReady: () => MathJax.startup.defaultPageReady().then(letWideFormulasBeFocused) };
window.addEventListener("resize", letWideFormulasBeFocused);
