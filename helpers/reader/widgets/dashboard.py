"""The training dashboard: loss and accuracy curves and samples that follow a training under way."""

import threading
import time

from helpers.draw import figures
from helpers.gan.training import Trainer
from helpers.reader.widgets.panels import Panel
from helpers.reader.widgets.scrubbers import loss_title, show_samples

REDRAW_SHARE = 0.05  # of the time may go into redrawing while a training runs


class TrainingDashboard(Panel):
    """Loss and accuracy curves and the fixed samples of a trainer, which follow its training.

    Run trains to the last epoch, Pause holds it after the current step, Stop ends it after the current epoch, Step
    trains to the end of one epoch. Nothing is lost: ``trainer.history`` and weights are those of a plain ``fit``, and
    Run goes on from there. Training runs in a thread of its own, so that the notebook stays usable meanwhile. On a GPU
    of Apple's, where two threads at once end the process, it runs in the cell, and the notebook's stop button ends it.
    """

    def __init__(self, trainer: Trainer, alt: str):
        self.trainer = trainer
        self._last = 0  # epoch after which training ends
        self._go, self._lock = threading.Event(), threading.Lock()
        self._thread, self._running = None, False
        self.redraw_share = 0.0  # seconds of redrawing per second of training since Run or Step was pressed
        buttons = {
            "Run": ("train to the last epoch", self.run),
            "Pause": ("hold after the current step; Run goes on", self.pause),
            "Stop": ("end training after this epoch and keep everything", self.stop),
            "Step": ("train to the end of one epoch", self.step),
        }
        super().__init__(self._draw, alt, buttons=buttons)
        self.buttons["Run"].add_class("no-picture")  # for the browser test: none at once
        self._say("ready")

    def run(self) -> None:
        """Train to the last epoch, or go on after a pause."""
        self._train_until(self.trainer.settings.epochs)

    def step(self) -> None:
        """Train to the end of the next epoch, or of the one under way."""
        self._train_until(len(self.trainer.history) + 1)

    def pause(self) -> None:
        """Hold the training after its current step."""
        if self._running:
            self._go.clear()

    def stop(self) -> None:
        """End the training when the current epoch is finished."""
        if self._running:
            self._last = 0
            self._go.set()
            self._say("stopping after this epoch")

    def wait(self) -> None:
        """Return when the training has ended (never, if it is paused)."""
        if self._thread is not None:
            self._thread.join()

    def _train_until(self, last: int) -> None:
        with self._lock:
            self._last = min(last, self.trainer.settings.epochs)
            self._go.set()
            if self._running or self.trainer.history.status == "diverged":
                return
            self.wait()  # a thread that no longer trains may still be drawing
            self._running, self.trainer.history.status = True, "running"
            if self.trainer.device.type != "mps":
                self._thread = threading.Thread(target=self._train, daemon=True)
                self._thread.start()
                return
        self._train()

    def _is_to_go_on(self) -> bool:
        with self._lock:  # so that no button pressed at this very moment is lost
            self._running = len(self.trainer.history) < self._last and self.trainer.history.status == "running"
            return self._running

    def _train(self) -> None:
        history, seconds, spent = self.trainer.history, 0.0, 0.0
        try:
            while self._is_to_go_on():
                self._held_seconds = 0.0
                row = self.trainer.run_epoch(self._after_step)
                row["seconds"] -= self._held_seconds
                seconds += row["seconds"]
                self._say("training")
                if spent + 2 * self.redraw_seconds <= REDRAW_SHARE * seconds:  # room for this picture and the last one
                    self.redraw()
                    spent += self.redraw_seconds
        except KeyboardInterrupt:  # the stop button, where training runs in the cell
            self._running = False
        except Exception as error:  # which would vanish with the thread
            self._running, history.status = False, "interrupted"
            self.status.value = f"training failed: {error}"
            raise
        if history.status == "running":
            history.status = "complete" if len(history) == self.trainer.settings.epochs else "interrupted"
        self.redraw()
        self.redraw_share = (spent + self.redraw_seconds) / max(seconds, 1e-9)
        self._say({"complete": "finished", "diverged": "diverged"}.get(history.status, "stopped"))

    def _after_step(self) -> None:
        if not self._go.is_set():
            start = time.perf_counter()
            self.redraw()
            self._say("paused")
            self._go.wait()
            self._held_seconds += time.perf_counter() - start

    def redraw(self, _change=None) -> None:
        """Draw the picture anew and note how long that takes."""
        start = time.perf_counter()
        super().redraw()
        self.redraw_seconds = time.perf_counter() - start

    def _say(self, what: str) -> None:
        history = self.trainer.history
        noticed = "".join(f"; {event['message']}" for event in history.events[-1:])
        self.status.value = f"{what}: epoch {len(history)} of {self.trainer.settings.epochs}{noticed}"

    def _draw(self):
        history, trainer = self.trainer.history, self.trainer
        fig, (losses, accuracy, samples) = figures.new_figure(3, width=11, height=3.4, width_ratios=(1.2, 1.2, 1))
        fig.set_layout_engine(None)  # measuring the layout would double the time of a redraw
        fig.subplots_adjust(left=0.055, right=0.99, bottom=0.14, top=0.91, wspace=0.22)
        if len(history):
            figures.loss_curves(history, loss_title(history, -1), losses)
            figures.accuracy_curves(history, f"D picks the real one: {history['pick_accuracy'][-1]:.0%}", accuracy)
            for ax in (losses, accuracy):
                ax.set_xlim(0, 1.05 * max(len(history), 5))
        else:
            for ax in (losses, accuracy):
                ax.set(title="No epoch yet: press Run or Step", xlabel="epoch", xlim=(0, 1), ylim=(0, 1))
        show_samples(samples, trainer.fixed_samples()[0], "Samples now", trainer.images)
        return fig
