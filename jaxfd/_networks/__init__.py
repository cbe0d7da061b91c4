"""Networks: marked layers, and gradients made sample by sample."""
